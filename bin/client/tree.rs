//! A key is a file's relative path with slashes, and back: a key that would leave its directory has no path.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_128;

/// The metadata that an import stores with each file, `Annulus-Meta-Xxh3`, and an export verifies.
pub(crate) const HASH: &str = "xxh3";

/// The hash of a file's content: XXH3, 128 bits, 32 hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// The key of a file at this path below the directory that is imported.
pub(crate) fn key(relative: &Path) -> Vec<u8> {
    let parts: Vec<_> = relative.iter().map(OsStr::as_bytes).collect();
    parts.join(&b'/')
}

/// The path of a key below the directory that is exported to.
pub(crate) fn path(key: &[u8]) -> Result<PathBuf, &'static str> {
    if key.contains(&0) {
        return Err("a file's name cannot hold a NUL byte");
    }
    let mut path = PathBuf::new();
    for part in key.split(|&byte| byte == b'/') {
        match part {
            b"" => return Err("a part of it is empty: it begins or ends with a slash, or has two in a row"),
            b"." | b".." => return Err("a part of it is . or .., which would lead out of its place"),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

/// Refuses a path below `root` that goes through a symbolic link (it would land elsewhere) or through a file.
pub(crate) fn check_parents(root: &Path, relative: &Path) -> Result<(), String> {
    let parents = relative
        .ancestors()
        .skip(1)
        .filter(|parent| !parent.as_os_str().is_empty());
    for parent in parents.map(|parent| root.join(parent)) {
        match fs::symlink_metadata(&parent) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => {
                return Err(format!(
                    "{} is a symbolic link, which is not followed",
                    parent.display()
                ));
            }
            Ok(_) => {
                return Err(format!(
                    "{} is a file, and cannot be a directory as well",
                    parent.display()
                ));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(format!("cannot look at {}: {error}", parent.display())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_its_key_lead_to_each_other() {
        for key_bytes in [
            &b"a"[..],
            b"a/b/c.txt",
            b"\xff/x",
            "über/ß".as_bytes(),
            b".hidden/..a/b..",
            b"a b/\n",
        ] {
            let found = path(key_bytes).expect("a path");
            assert_eq!(key(&found), key_bytes);
        }
    }

    #[test]
    fn a_key_that_would_leave_its_directory_has_no_path() {
        for bad in [
            &b""[..],
            b"/etc/passwd",
            b"..",
            b"../x",
            b"a/../../x",
            b"a/./b",
            b"a//b",
            b"a/",
            b"a\0b",
        ] {
            assert!(path(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn nothing_is_written_through_a_link_or_a_file() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("dir")).expect("created");
        fs::write(root.path().join("file"), "").expect("written");
        std::os::unix::fs::symlink("/", root.path().join("link")).expect("linked");
        let check = |relative: &str| check_parents(root.path(), Path::new(relative));
        assert_eq!(check("dir/new/file"), Ok(()));
        assert_eq!(check("top"), Ok(()));
        assert!(check("link/etc/x").is_err_and(|why| why.contains("symbolic link")));
        assert!(check("file/x").is_err_and(|why| why.contains("is a file")));
    }
}

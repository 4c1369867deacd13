//! Each script in `tests/scripts` tells one story of a cluster, and what it shows is what the nodes do.
//!
//! `UPDATE_GOLDEN=1 cargo test -p annulus-node --test scripted` writes what the nodes do now into the scripts; read the difference
//! before you keep it.
#![allow(clippy::unwrap_used)]

mod command;
mod difference;
mod names;
mod render;
mod runner;
mod script;
mod world;

use std::fs;
use std::path::PathBuf;

use crate::runner::Runner;
use crate::script::Script;

fn scripts() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts"))
}

fn run(name: &str) {
    let path = scripts().join(format!("{name}.txt"));
    let told = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut script = Script::parse(&told);
    let mut runner = Runner::default();
    for block in &mut script.blocks {
        block.output = block
            .commands()
            .flat_map(|(line, command)| {
                // The harness shows this where the test fails: how far the story went.
                println!("{name}.txt:{line}: {command}");
                runner
                    .run(command)
                    .unwrap_or_else(|error| panic!("crates/node/tests/scripts/{name}.txt:{line}: {error}"))
            })
            .collect();
    }
    let shown = script.to_string();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(&path, shown).unwrap();
    }
    assert!(
        told == shown,
        "the nodes do something else than crates/node/tests/scripts/{name}.txt tells (-), namely (+); \
         UPDATE_GOLDEN=1 writes it there:\n{}",
        difference::between(&told, &shown)
    );
}

macro_rules! stories {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn every_script_is_run() {
            let told = fs::read_dir(scripts()).unwrap().map(|entry| entry.unwrap().path());
            let mut told: Vec<_> = told
                .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            told.sort();
            let mut run = vec![$(stringify!($name)),*];
            run.sort();
            assert_eq!(told, run, "each script needs its name in the list of stories");
        }
    };
}

stories! {
    forming
    put
    put_forwarded
    durable
    catch_up
    closing
    hint
    doubt
    sloppy_and_strict
    no_owner_left
    read_repair
    speculative_read
    take_over
    taken_over_in_another_order
    session
    counter
    siblings
    delete
    condition
    listing
    expired
    expiry
    bucket
    outcome
}

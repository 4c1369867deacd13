//! Quantities as people write them (`1MiB`, `30s`, `host:port`) are checked where they are read, and print as they read.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes, written as `512`, `64KiB`, `1.5GiB` or `10MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let refuse = || format!("{text:?} is not a size: write a number and B, KiB, MiB, GiB or TiB, such as 64MiB");
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, bytes)| text.strip_suffix(name).map(|number| (number.trim_end(), *bytes)))
            .unwrap_or((text, 1));
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(unit).map(Size).ok_or_else(refuse);
        }
        let digits = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let bytes = number
            .parse::<f64>()
            .ok()
            .filter(|_| digits)
            .map(|number| number * unit as f64);
        // 2^53: beyond it a float no longer tells bytes apart.
        bytes
            .filter(|bytes| *bytes < 9.0e15)
            .map(|bytes| Size(bytes as u64))
            .ok_or_else(refuse)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = &UNITS[..4];
        match binary
            .iter()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes))
        {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A length of time, written as `750ms`, `30s`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        humantime::parse_duration(text).map(Span).map_err(|error| {
            format!("{text:?} is not a time ({error}): write a number and a unit, such as 750ms or 30s")
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// Where something listens: a host name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// The same host with another port.
    pub(crate) fn with_port(&self, port: u16) -> Endpoint {
        Endpoint {
            host: self.host.clone(),
            port,
        }
    }

    /// The port; 0 asks the system for a free one.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it stands for every interface of the machine, so that nobody can be told to connect to it.
    pub(crate) fn is_unspecified(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_unspecified())
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let refuse = || format!("{text:?} is not host:port, such as 127.0.0.1:8101 or [::1]:8101");
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let port = port.parse().map_err(|_| refuse())?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let legible = host
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/@,".contains(&byte));
        if host.is_empty() || host.len() > 255 || !legible || (host.contains(':') && !bracketed) {
            return Err(refuse());
        }
        Ok(Endpoint {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A size in a file: a string, or a plain number of bytes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Size, String> {
        match written {
            Written::Number(bytes) => Ok(Size(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

macro_rules! read_and_written_as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<$name, String> {
                text.parse()
            }
        }
    )*};
}
read_and_written_as_text!(Span, Endpoint);

macro_rules! printed_as_text {
    ($($name:ident),*) => {$(
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}
printed_as_text!(Size, Span, Endpoint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1MiB", 1 << 20),
            ("1.5 KiB", 1536),
            ("10MB", 10_000_000),
        ] {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "1 parsec", "99999999999TiB", "1e9", "nan", "infB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for bytes in [0, 1, 1000, 1024, 3 << 20, (1 << 30) + 1, u64::MAX] {
            assert_eq!(Size(bytes).to_string().parse::<Size>(), Ok(Size(bytes)));
        }
        for millis in [0, 750, 30_000, 5_400_000] {
            let span = Span(Duration::from_millis(millis));
            assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
        for text in ["127.0.0.1:8101", "[::1]:7101", "n1.example:80", "0.0.0.0:0"] {
            assert_eq!(
                text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn an_endpoint_needs_a_host_and_a_port() {
        for text in [
            "",
            "8101",
            ":8101",
            "localhost",
            "localhost:http",
            "::1:8101",
            "a b:1",
            "http://a:1",
            "a:65536",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
        assert!(
            "0.0.0.0:1"
                .parse::<Endpoint>()
                .is_ok_and(|endpoint| endpoint.is_unspecified())
        );
        assert!(
            "[::]:1"
                .parse::<Endpoint>()
                .is_ok_and(|endpoint| endpoint.is_unspecified())
        );
    }
}

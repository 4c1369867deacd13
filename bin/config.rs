//! The configuration of a node: read from four layers, checked as a whole, and only then used.

mod layers;
mod units;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use annulus_ring::{Capacity, MAX_REPLICAS, NodeName, Partitions};
use clap::ValueEnum;
use serde::Serialize;

pub(crate) use layers::Arguments;
pub(crate) use units::{Endpoint, Size, Span};

/// Why a configuration cannot be used: where it was said, and what would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub(crate) struct ConfigError {
    place: String,
    detail: String,
}

impl ConfigError {
    fn new(place: &str, detail: &str) -> ConfigError {
        ConfigError {
            place: place.to_owned(),
            detail: detail.trim_end().to_owned(),
        }
    }
}

/// What keeps the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineKind {
    /// On disk, as a log-structured merge tree
    Fjall,
    /// On disk, as a tree of pages
    Sled,
    /// In memory: everything is gone when the process ends
    Memory,
}

impl EngineKind {
    /// Its name, on the command line and in the data directory.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EngineKind::Fjall => "fjall",
            EngineKind::Sled => "sled",
            EngineKind::Memory => "memory",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The one list of options: makes of it `Options` (a layer, every option may be absent) and `Config` (what holds).
macro_rules! options {
    (
        required { $( #[doc = $r_doc:literal] $(#[arg($($r_arg:tt)*)])? $r_name:ident: $r_kind:ty, )* }
        optional { $( #[doc = $o_doc:literal] $(#[arg($($o_arg:tt)*)])? $o_name:ident: $o_kind:ty, )* }
        defaulted { $( #[doc = $d_doc:literal] $(#[arg($($d_arg:tt)*)])? $d_name:ident: $d_kind:ty = $default:literal, )* }
    ) => {
        /// One layer of the configuration.
        #[derive(clap::Args, Clone, Debug, Default)]
        pub(crate) struct Options {
            $( #[doc = $r_doc] #[arg(long $(, $($r_arg)*)?)] $r_name: Option<$r_kind>, )*
            $( #[doc = $o_doc] #[arg(long $(, $($o_arg)*)?)] $o_name: Option<$o_kind>, )*
            $(
                #[arg(long, help = concat!($d_doc, " [default: ", $default, "]").trim() $(, $($d_arg)*)?)]
                $d_name: Option<$d_kind>,
            )*
        }

        impl Options {
            /// What this layer does not set, from a weaker one.
            fn or(self, weaker: Options) -> Options {
                Options {
                    $( $r_name: self.$r_name.or(weaker.$r_name), )*
                    $( $o_name: self.$o_name.or(weaker.$o_name), )*
                    $( $d_name: self.$d_name.or(weaker.$d_name), )*
                }
            }
        }

        /// What a node runs with.
        #[derive(Clone, Debug, Serialize)]
        pub(crate) struct Config {
            $( pub(crate) $r_name: $r_kind, )*
            $( #[serde(skip_serializing_if = "Option::is_none")] pub(crate) $o_name: Option<$o_kind>, )*
            $( pub(crate) $d_name: $d_kind, )*
        }

        impl TryFrom<Options> for Config {
            type Error = ConfigError;

            fn try_from(options: Options) -> Result<Config, ConfigError> {
                let config = Config {
                    $( $r_name: options.$r_name.ok_or_else(|| missing(stringify!($r_name)))?, )*
                    $( $o_name: options.$o_name, )*
                    $( $d_name: options.$d_name.ok_or_else(|| missing(stringify!($d_name)))?, )*
                };
                config.check().map(|()| config)
            }
        }

        /// The weakest layer, as it would be written.
        const DEFAULTS: &[(&str, &str)] = &[$( (stringify!($d_name), $default), )*];
    };
}

options! {
    required {
        /// This node's name, unique in the cluster: 1 to 64 of a-z A-Z 0-9 . _ -
        #[arg(value_name = "NAME", value_parser = parse_name)]
        name: NodeName,
        /// Where it keeps its data; one node a directory, for ever
        #[arg(value_name = "DIR")]
        data_dir: PathBuf,
    }
    optional {
        /// Where clients reach it, if not at --http
        #[arg(value_name = "HOST:PORT")]
        advertise_http: Endpoint,
        /// Where its peers reach it, if not at --peer
        #[arg(value_name = "HOST:PORT")]
        advertise_peer: Endpoint,
        /// Form a new cluster once so many nodes see each other; the same on all of them
        #[arg(value_name = "NODES", value_parser = parse_positive)]
        bootstrap_expect: usize,
    }
    defaulted {
        /// Where it serves clients
        #[arg(value_name = "HOST:PORT")]
        http: Endpoint = "127.0.0.1:8101",
        /// Where it serves its peers
        #[arg(value_name = "HOST:PORT")]
        peer: Endpoint = "127.0.0.1:7101",
        /// Where peers may be found, with commas between; its own address may be among them
        #[arg(value_name = "HOST:PORT,…", value_parser = parse_join)]
        join: Join = "",
        /// The region it stands in
        #[arg(value_name = "NAME", value_parser = parse_place)]
        region: String = "default",
        /// What fails together inside the region: copies are spread over zones
        #[arg(value_name = "NAME", value_parser = parse_place)]
        zone: String = "default",
        /// Its weight, 0.01 to 1000: twice the capacity, twice the data
        #[arg(value_name = "WEIGHT", value_parser = parse_capacity)]
        capacity: Capacity = "1",
        /// What keeps the records
        engine: EngineKind = "fjall",
        /// The bound of the engine's cache
        #[arg(value_name = "SIZE")]
        cache_bytes: Size = "128MiB",
        /// Copies of each key in a new cluster
        #[arg(value_name = "COPIES", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_REPLICAS)))]
        replicas: u8 = "3",
        /// Partitions of the ring in a new cluster, a power of two
        #[arg(value_name = "COUNT", value_parser = parse_partitions)]
        partitions: Partitions = "1024",
        /// How long a request may take that says nothing else
        #[arg(value_name = "TIME")]
        timeout: Span = "5s",
        /// The largest value
        #[arg(value_name = "SIZE")]
        max_value_bytes: Size = "1MiB",
        /// A request that has not arrived whole after this is closed
        #[arg(value_name = "TIME")]
        request_timeout: Span = "30s",
        /// A connection without a request for so long is closed
        #[arg(value_name = "TIME")]
        idle_timeout: Span = "75s",
        /// Connections of clients at once
        #[arg(value_name = "COUNT", value_parser = parse_positive)]
        max_connections: usize = "20000",
        /// Requests under way at once; beyond it they are answered 429
        #[arg(value_name = "COUNT", value_parser = parse_positive)]
        max_inflight_requests: usize = "8192",
        /// Bytes of bodies under way at once; beyond it requests are answered 429
        #[arg(value_name = "SIZE")]
        max_inflight_bytes: Size = "256MiB",
        /// Refuse writes while the disk has less room than this
        #[arg(value_name = "SIZE")]
        min_free_bytes: Size = "256MiB",
        /// Bytes of hints that are kept for one peer
        #[arg(value_name = "SIZE")]
        hint_bytes_per_peer: Size = "256MiB",
        /// How long a hint is kept for its owner; after that it goes to any other owner that is there
        #[arg(value_name = "TIME")]
        hint_lifetime: Span = "3h",
        /// Stored data that is checked in a second, in the background; 0 for none
        #[arg(value_name = "SIZE")]
        scrub_rate: Size = "4MiB",
        /// What this node sends in a second to owners that catch up; 0 for as much as it can beside its clients
        #[arg(value_name = "SIZE")]
        catch_up_rate: Size = "0",
        /// Between two heartbeats to a peer
        #[arg(value_name = "TIME")]
        heartbeat: Span = "500ms",
        /// How long requests under way may take to end when the node stops
        #[arg(value_name = "TIME")]
        drain_timeout: Span = "20s",
        /// What is logged: a level, or directives such as info,annulus_http=debug
        #[arg(value_name = "FILTER", value_parser = parse_filter)]
        log: String = "info,fjall=warn,lsm_tree=warn",
        /// How log lines look
        log_format: LogFormat = "text",
    }
}

/// Addresses of possible peers; its own type so that one flag takes the whole list.
pub(crate) type Join = Vec<Endpoint>;

impl Config {
    /// Reads all layers and checks what comes out.
    ///
    /// # Errors
    /// [`ConfigError`] names the place and the option.
    pub(crate) fn load(arguments: Arguments) -> Result<Config, ConfigError> {
        Config::load_with(arguments, |variable| std::env::var_os(variable))
    }

    fn load_with(arguments: Arguments, environment: impl Fn(&str) -> Option<OsString>) -> Result<Config, ConfigError> {
        Config::try_from(arguments.layered(environment)?)
    }

    /// As a file that would give the same configuration.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(self).expect("options are texts, numbers and lists of texts")
    }

    /// Where peers are told to connect, unless the port is still to be given by the system.
    pub(crate) fn peer_address(&self) -> &Endpoint {
        self.advertise_peer.as_ref().unwrap_or(&self.peer)
    }

    /// Where clients are told to connect, unless the port is still to be given by the system.
    pub(crate) fn http_address(&self) -> &Endpoint {
        self.advertise_http.as_ref().unwrap_or(&self.http)
    }

    /// What only shows when options are seen together.
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |option: &str, detail: &str| Err(ConfigError::new(option, detail));
        if self.data_dir.as_os_str().is_empty() {
            return refuse("data-dir", "it is empty");
        }
        if self.http == self.peer && self.http.port() != 0 {
            return refuse(
                "http",
                &format!("{} is also --peer; clients and peers need two ports", self.http),
            );
        }
        for (option, address) in [
            ("advertise-http", self.http_address()),
            ("advertise-peer", self.peer_address()),
        ] {
            if address.is_unspecified() {
                return refuse(
                    option,
                    &format!("nobody can connect to {address}: say the address that others reach"),
                );
            }
        }
        self.check_quantities()?;
        let known = self
            .join
            .iter()
            .chain([self.peer_address()])
            .collect::<BTreeSet<_>>()
            .len();
        match self.bootstrap_expect {
            Some(expected) if expected > known => refuse(
                "bootstrap-expect",
                &format!(
                    "{expected} nodes are expected, but --join and this node's own {} make only {known}; \
                     name the others in --join",
                    self.peer_address()
                ),
            ),
            _ => Ok(()),
        }
    }

    fn check_quantities(&self) -> Result<(), ConfigError> {
        let times = [
            ("timeout", self.timeout),
            ("request-timeout", self.request_timeout),
            ("idle-timeout", self.idle_timeout),
            ("hint-lifetime", self.hint_lifetime),
            ("heartbeat", self.heartbeat),
        ];
        for (option, span) in times {
            if !(Duration::from_millis(10)..=Duration::from_secs(366 * 86_400)).contains(&span.0) {
                return Err(ConfigError::new(option, &format!("{span} is not from 10ms to a year")));
            }
        }
        let largest = LARGEST_VALUE_LIMIT;
        if self.max_value_bytes > largest {
            let detail = format!(
                "{} is more than the {largest} that fit a message between nodes",
                self.max_value_bytes
            );
            return Err(ConfigError::new("max-value-bytes", &detail));
        }
        let rate = self.catch_up_rate;
        if rate != Size(0) && rate < LEAST_CATCH_UP_RATE {
            let detail = format!(
                "{rate} a second is less than {LEAST_CATCH_UP_RATE}: owners would ask again before they are answered"
            );
            return Err(ConfigError::new("catch-up-rate", &detail));
        }
        if self.max_inflight_bytes < self.max_value_bytes {
            let detail = format!(
                "{} is less than --max-value-bytes {}",
                self.max_inflight_bytes, self.max_value_bytes
            );
            return Err(ConfigError::new("max-inflight-bytes", &detail));
        }
        Ok(())
    }
}

/// Some pages for each of two owners within the time after which they ask again.
const LEAST_CATCH_UP_RATE: Size = Size(1 << 20);

/// A value must fit a frame between nodes beside its key, its context and its metadata.
const LARGEST_VALUE_LIMIT: Size = Size(8 << 20);

fn missing(field: &str) -> ConfigError {
    let option = field.replace('_', "-");
    let detail = format!(
        "it is not set: say --{option}, {}, or {field} in the file",
        layers::variable(&option)
    );
    ConfigError::new(&option, &detail)
}

fn parse_name(text: &str) -> Result<NodeName, String> {
    NodeName::parse(text).map_err(|error| error.to_string())
}

fn parse_place(text: &str) -> Result<String, String> {
    NodeName::parse(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.0.to_string())
}

fn parse_join(text: &str) -> Result<Join, String> {
    text.split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(str::parse)
        .collect()
}

fn parse_positive(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{text:?} is not a number from 1 up"))
}

fn parse_capacity(text: &str) -> Result<Capacity, String> {
    let number = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    Capacity::parse(number).map_err(|error| error.to_string())
}

fn parse_partitions(text: &str) -> Result<Partitions, String> {
    let count = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
    Partitions::new(count).map_err(|error| error.to_string())
}

fn parse_filter(text: &str) -> Result<String, String> {
    let parsed = tracing_subscriber::EnvFilter::try_new(text);
    parsed.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};

    fn load(flags: &str) -> Result<Config, ConfigError> {
        let command = Arguments::augment_args(Command::new("test").no_binary_name(true));
        let matches = command
            .try_get_matches_from(flags.split_whitespace())
            .expect("the flags parse");
        Config::load_with(Arguments::from_arg_matches(&matches).expect("the flags parse"), |_| {
            None
        })
    }

    #[test]
    fn a_name_and_a_directory_are_enough() {
        let config = load("--name n1 --data-dir d").expect("it is in order");
        assert_eq!(
            (config.replicas, config.partitions.count(), config.bootstrap_expect),
            (3, 1024, None)
        );
        assert_eq!(config.http.to_string(), "127.0.0.1:8101");
        assert_eq!(config.drain_timeout.0, Duration::from_secs(20));
    }

    #[test]
    fn options_that_do_not_go_together_are_refused_by_name() {
        for (flags, says) in [
            (
                "--data-dir d",
                "name: it is not set: say --name, ANNULUS_NAME, or name in the file",
            ),
            (
                "--name n1",
                "data-dir: it is not set: say --data-dir, ANNULUS_DATA_DIR, or data_dir in the file",
            ),
            (
                "--name n1 --data-dir d --http a:1 --peer a:1",
                "http: a:1 is also --peer",
            ),
            (
                "--name n1 --data-dir d --peer 0.0.0.0:7101",
                "advertise-peer: nobody can connect to 0.0.0.0:7101",
            ),
            (
                "--name n1 --data-dir d --bootstrap-expect 2",
                "bootstrap-expect: 2 nodes are expected",
            ),
            (
                "--name n1 --data-dir d --bootstrap-expect 3 --join 127.0.0.1:7101,b:1,b:1",
                "make only 2",
            ),
            (
                "--name n1 --data-dir d --max-value-bytes 1GiB",
                "max-value-bytes: 1GiB is more than",
            ),
            (
                "--name n1 --data-dir d --max-inflight-bytes 1KiB",
                "max-inflight-bytes: 1KiB is less than",
            ),
            (
                "--name n1 --data-dir d --heartbeat 0s",
                "heartbeat: 0s is not from 10ms",
            ),
        ] {
            let error = load(flags).expect_err(flags).to_string();
            assert!(error.contains(says), "{flags}: {error}");
        }
    }

    #[test]
    fn its_own_address_in_the_join_list_counts_once() {
        let flags = "--name n1 --data-dir d --join 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103 --bootstrap-expect 3";
        assert!(load(flags).is_ok());
        assert!(
            load("--name n1 --data-dir d --bootstrap-expect 1").is_ok(),
            "a cluster of one needs nobody"
        );
        assert!(load("--name n1 --data-dir d --join b:1 --bootstrap-expect 2").is_ok());
    }
}

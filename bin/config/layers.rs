//! An option comes from the first layer that sets it: flag, environment, file, default. All four go through one parser.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Command, FromArgMatches};

use super::{ConfigError, DEFAULTS, Options};

/// What `annulus serve` and `annulus config check` take from the command line.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Arguments {
    /// Read options from this TOML file; each is named as on the command line
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) options: Options,
}

impl Arguments {
    /// All layers, the stronger over the weaker; `environment` looks a variable up.
    pub(super) fn layered(self, environment: impl Fn(&str) -> Option<OsString>) -> Result<Options, ConfigError> {
        let from_environment = read_environment(environment)?;
        let from_file = match self.config.or(from_environment.config) {
            Some(path) => read_file(&path)?,
            None => Options::default(),
        };
        Ok(self.options.or(from_environment.options).or(from_file).or(defaults()))
    }
}

/// `max-value-bytes` is `ANNULUS_MAX_VALUE_BYTES`.
pub(crate) fn variable(option: &str) -> String {
    format!("ANNULUS_{}", option.replace('-', "_").to_ascii_uppercase())
}

/// The names of all options, as on the command line and without `config`.
fn option_names() -> Vec<String> {
    let command = Options::augment_args(Command::new("options"));
    command
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect()
}

/// An empty variable counts as not set: that is how scripts and container files write "nothing".
fn read_environment(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Arguments, ConfigError> {
    let lookup = |option: &str| {
        let variable = variable(option);
        lookup(&variable)
            .filter(|value| !value.is_empty())
            .map(|value| (variable, value))
    };
    let mut options = Options::default();
    for option in option_names() {
        if let Some((variable, value)) = lookup(&option) {
            let value = value
                .into_string()
                .map_err(|_| ConfigError::new(&variable, "it is not UTF-8"))?;
            options = parse(&option, &value)
                .map_err(|detail| ConfigError::new(&variable, &detail))?
                .or(options);
        }
    }
    Ok(Arguments {
        config: lookup("config").map(|(_, path)| path.into()),
        options,
    })
}

fn read_file(path: &Path) -> Result<Options, ConfigError> {
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::new(&place, &error.to_string()))?;
    parse_file(&place, &text)
}

/// `data-dir` and `data_dir` are the same key.
fn parse_file(place: &str, text: &str) -> Result<Options, ConfigError> {
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| ConfigError::new(place, &error.to_string()))?;
    let known = option_names();
    let mut options = Options::default();
    let mut seen = Vec::new();
    for (key, value) in table {
        let option = key.replace('_', "-");
        let refuse = |detail: &str| ConfigError::new(&format!("{place}: {key}"), detail);
        if !known.contains(&option) {
            return Err(refuse(&format!(
                "there is no such option; the options are {}",
                known.join(", ")
            )));
        }
        if seen.contains(&option) {
            return Err(refuse("it is set twice, with \"-\" and with \"_\""));
        }
        let value = as_written(&value).ok_or_else(|| refuse("a text, a number or a list of texts is expected"))?;
        options = parse(&option, &value).map_err(|detail| refuse(&detail))?.or(options);
        seen.push(option);
    }
    Ok(options)
}

/// A value of the file as it would stand on the command line.
fn as_written(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            items.map(|items| items.join(","))
        }
        toml::Value::Boolean(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn defaults() -> Options {
    let parsed = DEFAULTS
        .iter()
        .map(|(option, value)| parse(&option.replace('_', "-"), value).expect("a test parses every default"));
    parsed.fold(Options::default(), Options::or)
}

/// One option by the parser of the command line; in an error, what is wrong with the value.
fn parse(option: &str, value: &str) -> Result<Options, String> {
    let command = Options::augment_args(Command::new("options").no_binary_name(true));
    let matches = command.try_get_matches_from([format!("--{option}={value}")]);
    matches
        .and_then(|matches| Options::from_arg_matches(&matches))
        .map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            // Where clap has no cause (a choice that does not exist), its first paragraph says it.
            cause.unwrap_or_else(|| {
                let text = error.to_string();
                let first = text.split("\n\n").next().unwrap_or_default();
                first
                    .trim_start_matches("error: ")
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, units::Size};

    fn arguments(flags: &[&str]) -> Arguments {
        let command = Arguments::augment_args(Command::new("test").no_binary_name(true));
        let matches = command.try_get_matches_from(flags).expect("the flags parse");
        Arguments::from_arg_matches(&matches).expect("the flags parse")
    }

    fn nothing(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn a_flag_is_over_the_environment_over_the_file_over_the_default() {
        let file = "replicas = 2\nmax-value-bytes = \"2MiB\"\ncache_bytes = 1000\nhttp = \"127.0.0.1:1\"";
        let environment = |variable: &str| match variable {
            "ANNULUS_REPLICAS" => Some("4".into()),
            "ANNULUS_MAX_VALUE_BYTES" => Some("4MiB".into()),
            "ANNULUS_JOIN" => Some("".into()),
            _ => None,
        };
        let flags = arguments(&["--replicas", "5"]);
        let from_environment = read_environment(environment).expect("it is in order");
        let from_file = parse_file("annulus.toml", file).expect("it is in order");
        let merged = flags.options.or(from_environment.options).or(from_file).or(defaults());
        assert_eq!(merged.replicas, Some(5), "flag");
        assert_eq!(merged.max_value_bytes, Some(Size(4 << 20)), "environment");
        assert_eq!(merged.cache_bytes, Some(Size(1000)), "file");
        assert_eq!(
            merged.http.map(|http| http.to_string()),
            Some("127.0.0.1:1".to_owned()),
            "file"
        );
        assert_eq!(merged.join, Some(Vec::new()), "an empty variable is not set");
        assert_eq!(
            merged.partitions.map(|partitions| partitions.count()),
            Some(1024),
            "default"
        );
    }

    #[test]
    fn every_option_can_be_set_in_every_layer() {
        for option in option_names() {
            let value = DEFAULTS
                .iter()
                .find(|(name, _)| name.replace('_', "-") == option)
                .map(|(_, value)| *value);
            let value = match option.as_str() {
                "http" | "peer" | "advertise-http" | "advertise-peer" | "join" => "n1:7101",
                "bootstrap-expect" => "3",
                _ => value.unwrap_or("n1"),
            };
            let flag = format!("--{option}={value}");
            let by_flag = format!("{:?}", arguments(&[&flag]).options);
            let set = |name: &str| (name == variable(&option)).then(|| value.into());
            let by_environment = read_environment(set).expect("it is in order").options;
            assert_eq!(format!("{by_environment:?}"), by_flag);
            for key in [option.clone(), option.replace('-', "_")] {
                let by_file = parse_file("f", &format!("{key} = \"{value}\"")).expect("it is in order");
                assert_eq!(format!("{by_file:?}"), by_flag);
            }
        }
    }

    #[test]
    fn an_error_names_where_it_was_said_and_what_would_do() {
        for (text, says) in [
            (
                "data-dirr = \"x\"",
                "annulus.toml: data-dirr: there is no such option; the options are name, data-dir",
            ),
            ("replicas = 0", "annulus.toml: replicas: 0 is not in 1..=16"),
            ("http = 8101", "annulus.toml: http: \"8101\" is not host:port"),
            (
                "capacity = 0",
                "annulus.toml: capacity: a capacity must be from 0.01 to 1000",
            ),
            ("engine = \"rocks\"", "[possible values: fjall, sled, memory]"),
            ("join = [1]", "annulus.toml: join: a text, a number or a list"),
            ("data-dir = \"a\"\ndata_dir = \"b\"", "set twice"),
            ("[serve]\nname = \"n1\"", "annulus.toml: serve: there is no such option"),
            ("name = ", "line 1"),
        ] {
            let error = parse_file("annulus.toml", text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let set = |name: &str| (name == "ANNULUS_TIMEOUT").then(|| "soon".into());
        let error = read_environment(set).expect_err("it is not a time").to_string();
        assert!(error.starts_with("ANNULUS_TIMEOUT: \"soon\" is not a time"), "{error}");
        let error = read_file(Path::new("/nonexistent/annulus.toml"))
            .expect_err("there is no file")
            .to_string();
        assert!(error.contains("/nonexistent/annulus.toml"), "{error}");
    }

    #[test]
    fn the_effective_configuration_reads_back_the_same() {
        let flags = [
            "--name=n1",
            "--data-dir=d",
            "--join=a:1,b:2",
            "--bootstrap-expect=3",
            "--capacity=2.5",
        ];
        let config = Config::load_with(arguments(&flags), nothing).expect("it is in order");
        let printed = config.to_toml();
        let read = parse_file("printed", &printed).expect("what is printed is a configuration");
        let again = Config::try_from(read.or(defaults())).expect("it is in order");
        assert_eq!(again.to_toml(), printed);
        assert!(
            printed.contains("join = [\"a:1\", \"b:2\"]") && printed.contains("capacity = 2.5"),
            "{printed}"
        );
    }
}

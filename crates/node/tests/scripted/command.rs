//! A command line as its words: first a verb, then what it is about, options as `name=value`, and `as $name` to keep an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_coordinator::{Durability, Level, Mode, Options};

/// The words of a line that nobody has taken yet.
pub(crate) struct Words {
    words: std::vec::IntoIter<String>,
    options: BTreeMap<String, String>,
    /// Under which name the answer is kept.
    pub(crate) keep: Option<String>,
}

impl Words {
    pub(crate) fn parse(line: &str) -> Result<Words, String> {
        let (mut words, mut options, mut keep) = (Vec::new(), BTreeMap::new(), None);
        let mut pieces = split(line)?.into_iter();
        while let Some(piece) = pieces.next() {
            if piece == "as" {
                keep = Some(pieces.next().ok_or("`as` needs a $name")?);
                continue;
            }
            match piece.split_once('=') {
                Some((name, value)) if !piece.starts_with('"') => {
                    options.insert(name.to_owned(), value.to_owned());
                }
                _ => words.push(piece),
            }
        }
        Ok(Words {
            words: words.into_iter(),
            options,
            keep,
        })
    }

    pub(crate) fn next(&mut self, what: &str) -> Result<String, String> {
        self.words.next().ok_or_else(|| format!("{what} is missing"))
    }

    pub(crate) fn rest(&mut self) -> Vec<String> {
        self.words.by_ref().collect()
    }

    pub(crate) fn number(&mut self, what: &str) -> Result<usize, String> {
        number(&self.next(what)?)
    }

    /// `"text"`, without its quotes.
    pub(crate) fn text(&mut self, what: &str) -> Result<String, String> {
        let word = self.next(what)?;
        let text = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
        text.map(str::to_owned)
            .ok_or_else(|| format!("{what} stands in quotes, unlike {word}"))
    }

    pub(crate) fn option(&mut self, name: &str) -> Option<String> {
        self.options.remove(name)
    }

    pub(crate) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let value = self.option(name).map(|value| parse(&value)).transpose();
        value.map_err(|error| format!("{name}: {error}"))
    }

    /// What a request says of its own consistency.
    pub(crate) fn consistency(&mut self) -> Result<Options, String> {
        Ok(Options {
            r: self.parsed("r", level)?,
            w: self.parsed("w", level)?,
            mode: self.parsed("sloppy", mode)?,
            durability: self.parsed("durability", durability)?,
            timeout: self.parsed("timeout", duration)?,
        })
    }

    /// Nothing may be left: what nobody understands would be ignored in silence.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if let Some(word) = self.words.next() {
            return Err(format!("{word:?} is one word too many"));
        }
        match self.options.pop_first() {
            Some((name, _)) => Err(format!("there is no option {name}=")),
            None => Ok(()),
        }
    }
}

fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        quoted ^= character == '"';
        match character.is_whitespace() && !quoted {
            true if word.is_empty() => {}
            true => words.push(std::mem::take(&mut word)),
            false => word.push(character),
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    words.extend((!word.is_empty()).then_some(word));
    Ok(words)
}

pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not such a number"))
}

pub(crate) fn level(text: &str) -> Result<Level, String> {
    match text {
        "one" => Ok(Level::One),
        "quorum" => Ok(Level::Quorum),
        "all" => Ok(Level::All),
        count => number(count).map(Level::Count),
    }
}

pub(crate) fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "true" => Ok(Mode::Sloppy),
        "false" => Ok(Mode::Strict),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

pub(crate) fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "disk" => Ok(Durability::Disk),
        "memory" => Ok(Durability::Memory),
        other => Err(format!("{other:?} is neither disk nor memory")),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (unit, count) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(count), _) => (1, count),
        (None, Some(count)) => (1000, count),
        (None, None) => return Err(format!("{text:?} is no time: 500ms or 5s is")),
    };
    Ok(Duration::from_millis(number::<u64>(count)? * unit))
}

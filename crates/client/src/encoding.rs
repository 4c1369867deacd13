//! Bytes in JSON are base64, standard alphabet, padded (RFC 4648 §4).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A key as it stands in JSON: text where it is UTF-8, `{"base64":"…"}` otherwise.
///
/// ```
/// use annulus_client::JsonKey;
/// assert_eq!(serde_json::to_string(&JsonKey(b"a/b".to_vec())).unwrap(), r#""a/b""#);
/// assert_eq!(serde_json::to_string(&JsonKey(vec![0xff])).unwrap(), r#"{"base64":"/w=="}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonKey(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes {
        #[serde(with = "crate::encoding")]
        base64: Vec<u8>,
    },
}

impl Serialize for JsonKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = String::from_utf8(self.0.clone()).map_or_else(
            |error| Form::Bytes {
                base64: error.into_bytes(),
            },
            Form::Text,
        );
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into_bytes(),
            Form::Bytes { base64 } => base64,
        }))
    }
}

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: From<Vec<u8>>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD
        .decode(&text)
        .map(T::from)
        .map_err(|error| de::Error::custom(format!("base64: {error}")))
}

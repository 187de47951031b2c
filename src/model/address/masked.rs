//! Formatting and serialisation that addresses share: masked, and validated on deserialisation.

/// Implements masked formatting, and serde as a string that is validated on deserialisation.
macro_rules! masked_text {
    ($($type:ident),*) => {$(
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), crate::model::id::Masked(&self.0))
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                crate::model::id::Masked(&self.0).fmt(f)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                Self::read_stored(&<String as serde::Deserialize>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// Parses a stored value by the rule of its type.
macro_rules! read_stored_by_parsing {
    ($($type:ident),*) => {$(
        impl $type {
            fn read_stored(text: &str) -> crate::model::error::Result<Self> {
                text.parse()
            }
        }
    )*};
}

pub(super) use {masked_text, read_stored_by_parsing};

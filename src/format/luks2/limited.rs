//! JSON objects and lists of which no more is kept than a header may have: checked while they are read.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// An object whose names are `0` to `MOST - 1`.
#[derive(Debug, Clone)]
pub(super) struct Numbered<T, const MOST: u32>(pub(super) BTreeMap<u32, T>);

/// A list of at most `MOST` texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Texts<const MOST: usize>(pub(super) Vec<String>);

/// The number that a name stands for: decimal, without sign and leading zeros.
pub(super) fn number(name: &str) -> Option<u32> {
    let number = name.parse().ok()?;
    (u32::to_string(&number) == name).then_some(number)
}

/// The number that a text stands for, as JSON of LUKS2 writes what may pass 53 bits.
pub(super) fn number64(text: &str) -> Option<u64> {
    let number = text.parse().ok()?;
    (u64::to_string(&number) == text).then_some(number)
}

impl<'de, T: Deserialize<'de>, const MOST: u32> Deserialize<'de> for Numbered<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NumberedVisitor(PhantomData))
    }
}

struct NumberedVisitor<T, const MOST: u32>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: u32> Visitor<'de> for NumberedVisitor<T, MOST> {
    type Value = Numbered<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with numbers below {MOST} as names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(name) = access.next_key::<String>()? {
            let index = number(&name).filter(|index| *index < MOST);
            let index = index.ok_or_else(|| A::Error::custom(NO_NUMBER))?;
            if map.insert(index, access.next_value()?).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Numbered(map))
    }
}

impl<'de, const MOST: usize> Deserialize<'de> for Texts<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(TextsVisitor)
    }
}

struct TextsVisitor<const MOST: usize>;

impl<'de, const MOST: usize> Visitor<'de> for TextsVisitor<MOST> {
    type Value = Texts<MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = access.next_element()? {
            if texts.len() == MOST {
                return Err(A::Error::custom(TOO_LONG));
            }
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

/// What the errors say of an object or a list.
pub(super) const NO_NUMBER: &str = "has a name that is no number in its range";
pub(super) const TWICE: &str = "has two objects of one name";
pub(super) const TOO_LONG: &str = "is too long a list";

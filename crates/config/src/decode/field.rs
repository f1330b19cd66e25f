//! One optional key of a section: absent, given with its position, or given but unreadable.

use std::ops::Range;

use serde::{Deserialize, Deserializer};
use serde_spanned::Spanned;

/// A key of the file. Serde would abandon the whole file at the first value it cannot read; a `Field` keeps the
/// damage to itself, so that the rest can be checked as well.
///
/// `Unreadable` has been reported by the decoder already: [`crate::parse`] refuses a file that has one.
#[derive(Clone, Debug, Default)]
pub enum Field<T> {
    /// Not in the file.
    #[default]
    Absent,
    /// In the file, of a wrong type or form.
    Unreadable(Range<usize>),
    /// In the file.
    Given(Spanned<T>),
}

impl<T> Field<T> {
    /// The value with its position, if it is there and readable.
    pub fn given(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// The value, if it is there and readable.
    pub fn value(&self) -> Option<&T> {
        self.given().map(Spanned::get_ref)
    }

    /// The value, to be changed, if it is there and readable.
    pub(crate) fn value_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Given(value) => Some(value.get_mut()),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// Whether the key is missing, as opposed to unreadable, which was reported.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The position of the value, readable or not.
    pub fn span(&self) -> Option<Range<usize>> {
        match self {
            Self::Absent => None,
            Self::Unreadable(span) => Some(span.clone()),
            Self::Given(value) => Some(value.span()),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let attempt = Spanned::<Attempt<T>>::deserialize(deserializer)?;
        let span = attempt.span();
        Ok(match attempt.into_inner() {
            Attempt(Some(value)) => Self::Given(Spanned::new(span, value)),
            Attempt(None) => Self::Unreadable(span),
        })
    }
}

/// Swallows the error of a value, which the decoder has written into its list before it came here.
struct Attempt<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Attempt<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(T::deserialize(deserializer).ok()))
    }
}

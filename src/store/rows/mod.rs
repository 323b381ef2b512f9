//! Rows: the columns of each table, named once, and how a record becomes a row and a row a record.
//!
//! A row travels as a JSON array of its columns, in both directions: writes send many rows as one parameter, and reads
//! fetch a row as one value. [`Row::COLUMNS`] gives the order for both, so that the SQL is made from it and cannot
//! disagree with it.
//!
//! Must not know: SQL, connections.

mod key;
mod ledger;
mod outbox;
mod policy;
mod rotation;
mod usage;

use std::fmt;

use chrono::NaiveDate;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::model::{
    Channel, Disposition, KeyState, KmsProvider, Name, ObjectKind, Outcome, Phase, PolicyStatus, RotationCause,
    RotationStrategy, RotationTrigger, Step, TimeOfDay, Timestamp, VersionState, Workflow,
};

pub(super) use key::{KeyRow, VersionRow};
pub(super) use ledger::{AuditRow, DocumentRow, PlanRow, TenantOrAll};
pub(super) use outbox::{OutboxRow, concluded_rows};
pub(super) use policy::PolicyRow;
pub(super) use rotation::{PastRow, RotationRow, StepRow};
pub(super) use usage::{UsageSum, integer};

/// A row of one table.
pub(super) trait Row: Serialize + DeserializeOwned {
    /// The table.
    const TABLE: &'static str;
    /// Its columns, in the order in which a row is an array of them.
    const COLUMNS: &'static [&'static str];
    /// What each of them holds.
    const TYPES: &'static [ColumnType];
}

/// What a column holds, for a database that has a type of its own for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnType {
    /// Also the words of an enumeration.
    Text,
    Integer,
    Boolean,
    Uuid,
    /// Whole microseconds of coordinated universal time.
    Instant,
    Date,
    TimeOfDay,
    /// A list or an object.
    Json,
}

/// A type of the fields of a row.
pub(super) trait Column {
    /// What its column holds.
    const TYPE: ColumnType;
}

impl<T: Column> Column for Option<T> {
    const TYPE: ColumnType = T::TYPE;
}

impl<T> Column for Json<T> {
    const TYPE: ColumnType = ColumnType::Json;
}

/// Says which types a column's type stands for.
macro_rules! columns {
    ($($column:ident: $($type:ty),+;)+) => {
        $($(impl Column for $type {
            const TYPE: ColumnType = ColumnType::$column;
        })+)+
    };
}

columns! {
    Text: String, Name, TenantOrAll, KmsProvider, RotationTrigger, PolicyStatus, RotationStrategy, Disposition, KeyState,
        VersionState, Workflow, Phase, Step, RotationCause, Outcome, ObjectKind, Channel;
    Integer: u32, u64;
    Boolean: Flag;
    Uuid: Uuid;
    Instant: Moment;
    Date: NaiveDate;
    TimeOfDay: TimeOfDay;
}

/// Declares a row: a struct that is a JSON array in the order of its fields.
macro_rules! row {
    ($(#[$meta:meta])* $name:ident of $table:literal { $($column:ident: $type:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, serde::Deserialize)]
        pub(in crate::store) struct $name { $(pub $column: $type),+ }

        impl $crate::store::rows::Row for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),+];
            const TYPES: &'static [$crate::store::rows::ColumnType] =
                &[$(<$type as $crate::store::rows::Column>::TYPE),+];
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                use $crate::store::rows::Row;
                let mut row = serializer.serialize_tuple(Self::COLUMNS.len())?;
                $(row.serialize_element(&self.$column)?;)+
                row.end()
            }
        }
    };
}
pub(in crate::store) use row;

/// An instant as a column: `YYYY-MM-DDTHH:MM:SS.ffffffZ`, always 27 characters, so that text order is time order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub Timestamp);

impl Moment {
    pub(super) fn parse(text: &str) -> Option<Self> {
        use chrono::NaiveDate;
        let shape = b"dddd-dd-ddTdd:dd:dd.ddddddZ";
        let fits = text.len() == shape.len()
            && text.bytes().zip(shape).all(|(c, s)| if *s == b'd' { c.is_ascii_digit() } else { c == *s });
        if !fits {
            return None;
        }
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok();
        let year = i32::try_from(number(0, 4)?).ok()?;
        NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?
            .and_hms_micro_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 26)?)
            .map(|time| Self(time.and_utc()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use chrono::{Datelike, Timelike};
        let t = self.0;
        // A leap second has a fraction beyond one: it is kept as the last microsecond before the next second.
        let micros = t.timestamp_subsec_micros().min(999_999);
        let (year, month, day, hour, minute, second) = (t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let year = chrono::Datelike::year(&self.0);
        if !(0..=9999).contains(&year) {
            return Err(serde::ser::Error::custom(format!("the year {year} has no four digits")));
        }
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Moment;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an instant, YYYY-MM-DDTHH:MM:SS.ffffffZ")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                Moment::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A list or an object as a column: JSON text inside the row's JSON, so that the database keeps exactly our text.
#[derive(Debug, Clone)]
pub(super) struct Json<T>(pub T);

impl<T: Serialize> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(&self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(std::marker::PhantomData<T>);
        impl<T: DeserializeOwned> Visitor<'_> for Text<T> {
            type Value = Json<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Json<T>, E> {
                serde_json::from_str(text).map(Json).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text(std::marker::PhantomData))
    }
}

/// A boolean as a column: written as JSON's, read as 0 or 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag(pub bool);

impl Serialize for Flag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(self.0)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean, or 0 or 1")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Flag, E> {
                match value {
                    0 => Ok(Flag(false)),
                    1 => Ok(Flag(true)),
                    other => Err(E::invalid_value(de::Unexpected::Unsigned(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Option<String> {
        Moment::parse(text).map(|moment| moment.to_string())
    }

    #[test]
    fn an_instant_has_one_form() {
        let form = "2026-11-23T02:00:00.000001Z";
        assert_eq!(moment(form).as_deref(), Some(form));
        for other in
            ["2026-11-23T02:00:00Z", "2026-11-23 02:00:00.000001Z", "2026-11-23T02:00:00.000001+", "", form.trim()]
        {
            assert_eq!(moment(other).is_some(), other == form, "{other}");
        }
        for impossible in ["2026-02-29T00:00:00.000000Z", "2026-11-23T24:00:00.000000Z", "2026-11-23T00:00:61.000000Z"]
        {
            assert_eq!(moment(impossible), None);
        }
        assert_eq!(moment("2026-11-23T02:00:00.00000é"), None);
    }

    #[test]
    fn an_instant_that_would_not_sort_is_refused() {
        let far = chrono::NaiveDate::from_ymd_opt(10_000, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc();
        assert!(serde_json::to_string(&Moment(far)).is_err());
    }

    #[test]
    fn a_leap_second_keeps_its_place() {
        use chrono::TimeZone;
        let leap = chrono::Utc.with_ymd_and_hms(2016, 12, 31, 23, 59, 59).unwrap();
        let leap = chrono::Timelike::with_nanosecond(&leap, 1_500_000_000).unwrap();
        assert_eq!(Moment(leap).to_string(), "2016-12-31T23:59:59.999999Z");
    }

    #[test]
    fn a_flag_is_nothing_but_a_boolean() {
        assert!(serde_json::from_str::<Flag>("1").unwrap().0);
        assert!(!serde_json::from_str::<Flag>("false").unwrap().0);
        for other in ["2", "null", "\"1\"", "-1"] {
            assert!(serde_json::from_str::<Flag>(other).is_err(), "{other}");
        }
    }
}

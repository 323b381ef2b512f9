//! The Python process that answers.

use keywheel::schedule::TZ_VERSION;
use serde_json::Value;

use crate::support::python::Script;

pub struct Oracle(Script);

impl Oracle {
    pub fn start() -> Self {
        let mut script = Script::start("schedule.py");
        let version = script.answer();
        assert_eq!(
            version["tz_version"], TZ_VERSION,
            "tests/requirements.txt must name the `tzdata` of the tz database that chrono-tz has compiled in"
        );
        Self(script)
    }

    pub fn ask(&mut self, question: &Value) -> Value {
        self.0.ask(question)
    }
}

//! A plan in the order of reading: the same in every form that a person reads.

use std::collections::HashMap;

use crate::model::{ObjectKind, ObjectRef};
use crate::plan::{Action, Change, Consequence, Plan};

/// The changes of a plan, each in one group.
pub struct Groups<'p> {
    /// What will not decrypt any more.
    pub lost: Vec<&'p Change>,
    /// Documents that are no keys.
    pub policies: Vec<&'p Change>,
    /// Documents of keys, and what people said of versions.
    pub keys: Vec<&'p Change>,
    /// What is due.
    pub work: Vec<&'p Change>,
    /// What follows, with the change beneath which it stands: the first of its object.
    follows: HashMap<&'p ObjectRef, (Action, Option<u32>, Vec<&'p Consequence>)>,
    /// What follows for objects that no change is about.
    pub elsewhere: Vec<&'p Consequence>,
}

impl<'p> Groups<'p> {
    /// The groups of a plan.
    pub fn of(plan: &'p Plan) -> Self {
        let mut follows: HashMap<&ObjectRef, _> = HashMap::new();
        if !plan.consequences.is_empty() {
            for change in &plan.changes {
                follows.entry(&change.object).or_insert((change.action, change.version, Vec::new()));
            }
        }
        let mut elsewhere = Vec::new();
        for consequence in &plan.consequences {
            match follows.get_mut(&consequence.object) {
                Some((_, _, consequences)) => consequences.push(consequence),
                None => elsewhere.push(consequence),
            }
        }
        let (mut lost, mut policies, mut keys, mut work) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for change in &plan.changes {
            let group = match change.action {
                action if action.is_destructive() => &mut lost,
                Action::Rotate | Action::Rollback | Action::Finish => &mut work,
                _ if change.object.kind == ObjectKind::EncryptionKey => &mut keys,
                _ => &mut policies,
            };
            group.push(change);
        }
        Self { lost, policies, keys, work, follows, elsewhere }
    }

    /// What follows from a change; a second change of the same object repeats nothing.
    pub fn consequences(&self, change: &Change) -> &[&'p Consequence] {
        match self.follows.get(&change.object) {
            Some((action, version, follows)) if (*action, *version) == (change.action, change.version) => follows,
            _ => &[],
        }
    }
}

/// What it means that a change takes away: for whoever reads nothing else.
pub const fn loss(action: Action) -> &'static str {
    match action {
        Action::Disable => "is disabled: nothing that it encrypted decrypts until somebody enables it again",
        Action::ScheduleDestruction => {
            "is scheduled for destruction: nothing that it encrypted decrypts from now on, and when its waiting period \
             has passed that is lost for good"
        }
        _ => "is destroyed: everything that it encrypted is lost for good, and nobody can bring it back",
    }
}

//! Guardrails: rules in CEL that documents and plans keep, the house's own and those of compliance packs.
//!
//! A [`Rule`] is compiled once and judged for each policy, for each key with its policy, or for a plan, by what it speaks
//! of. It reads what it is given and nothing else: no clock, no file.
//!
//! # Invariant
//! A rule is never true by accident. One that does not parse, speaks of something that there is not (a field of a field,
//! too), or whose value hangs on a field that a document lacks is an error, at the rule's place or the document's. As
//! everywhere in CEL, `true || x` and `false && x` do not hang on `x`. Its size, its depth and its loops are bounded
//! before it is parsed or judged.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::{Context, ExecutionError, Program, Value};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;

use crate::model::{EncryptionKey, Guardrail, RotationPolicy, Timestamp};
use crate::schedule::Timing;

/// What a rule is called in findings and waivers.
#[must_use]
pub fn code(guardrail: &Guardrail) -> String {
    let mut code = "guardrail/".to_owned();
    for letter in guardrail.name.as_str().chars() {
        if letter.is_ascii_alphanumeric() {
            code.push(letter.to_ascii_lowercase());
        } else if !code.ends_with(['-', '/']) {
            code.push('-');
        }
    }
    code.trim_end_matches('-').to_owned()
}

/// What a rule may ask of a policy beside its fields: the most days from one rotation to the next, by its interval or its
/// schedule. A policy that makes nothing due by time has none.
pub const LONGEST_INTERVAL: &str = "longest_interval_days";

/// How long a rule may be.
const LONGEST: usize = 4096;

/// How deep brackets and signs may stand in one another: the parser works recursively.
const DEEPEST: usize = 32;

/// How many operators a rule may have: a chain of them is as deep as it is long.
const OPERATORS: usize = 256;

/// What a rule is judged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Each policy.
    Policy,
    /// Each key, with its policy if it has one.
    Key,
    /// The plan as a whole.
    Plan,
}

/// What a rule over the plan may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlanFacts {
    /// How many changes it has.
    pub changes: usize,
    /// Keys and policies that are made.
    pub creations: usize,
    /// Keys that rotate.
    pub rotations: usize,
    /// Keys and policies that leave the record.
    pub removals: usize,
    /// Versions that are disabled, scheduled for destruction or destroyed.
    pub destructions: usize,
    /// The tenants that it changes something of.
    pub tenants: usize,
}

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    program: Program,
    /// What it is judged for.
    pub subject: Subject,
    /// The fields of `policy` and `key` that it reads, in the order in which they stand in it.
    pub fields: Vec<(Subject, String)>,
}

/// Why a rule is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong, and at which column.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Mistake {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// What every rule may ask for.
pub struct Facts(Context<'static, 'static>);

/// What a rule is judged with: a policy, a key with its policy, or a plan.
pub struct Given<'f>(Context<'f, 'static>);

impl Facts {
    /// The instant.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let mut context = Context::default();
        context.add_variable_from_value("now", Value::Timestamp(now.fixed_offset()));
        Self(context)
    }

    /// A policy.
    #[must_use]
    pub fn policy(&self, policy: &RotationPolicy) -> Given<'_> {
        let mut context = self.0.new_inner_scope();
        context.add_variable_from_value("policy", value(policy_fields(policy)));
        Given(context)
    }

    /// A key, under its policy if it has one.
    #[must_use]
    pub fn key(&self, key: &EncryptionKey, policy: Option<&RotationPolicy>) -> Given<'_> {
        let mut context = self.0.new_inner_scope();
        context.add_variable_from_value("key", of(key, &EMPTY_IN_KEY));
        context.add_variable_from_value("policy", policy.map_or(Value::Null, |policy| value(policy_fields(policy))));
        Given(context)
    }

    /// A plan.
    #[must_use]
    pub fn plan(&self, plan: &PlanFacts) -> Given<'_> {
        let mut context = self.0.new_inner_scope();
        context.add_variable_from_value("plan", of(plan, &[]));
        Given(context)
    }
}

impl Rule {
    /// Compiles a rule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, Mistake> {
        bounded(text)?;
        let program = Program::compile(text).map_err(|errors| syntax(&errors))?;
        let mut reader = Reader { program: &program, roots: BTreeSet::new(), fields: Vec::new() };
        reader.read(program.expression(), &mut Vec::new(), 0)?;
        let Reader { roots, fields, .. } = reader;
        let subject = match (roots.contains("plan"), roots.contains("key"), roots.contains("policy")) {
            (true, false, false) => Subject::Plan,
            (true, ..) => {
                return Err(Mistake::new(
                    "the rule speaks of the plan as a whole and of single documents",
                    "write two rules: one over `plan`, one over `policy` or `key`",
                ));
            }
            (false, true, _) => Subject::Key,
            (false, false, true) => Subject::Policy,
            (false, false, false) => {
                return Err(Mistake::new(
                    "the rule speaks of no policy, key or plan",
                    "a rule is over `policy`, over `key` (and its `policy`), or over `plan`; each may ask for `now`",
                ));
            }
        };
        Ok(Self { program, subject, fields })
    }

    /// Is it kept by what is given?
    ///
    /// # Errors
    /// It cannot be judged for that, and why.
    pub fn is_kept(&self, given: &Given<'_>) -> Result<bool, Mistake> {
        match self.program.execute(&given.0) {
            Ok(Value::Bool(kept)) => Ok(kept),
            Ok(other) => {
                let message = format!("it is {} and neither true nor false", kind(&other));
                Err(Mistake::new(message, "compare it with something: a rule is true where it is kept"))
            }
            Err(error) => Err(self.unjudged(&error)),
        }
    }

    /// Why it has no value for what it was given.
    fn unjudged(&self, error: &ExecutionError) -> Mistake {
        match error {
            ExecutionError::NoSuchKey(field) => {
                let subject = self.fields.iter().find(|(_, name)| *name == **field).map(|(subject, _)| subject);
                let root = ROOTS.iter().find(|(_, of, _)| of.as_ref() == subject).map_or("policy", |(root, ..)| root);
                let asked = if subject.is_some() { format!("{root}.{field}") } else { format!("{root}. ... .{field}") };
                let help = format!("a rule that may meet a document without it asks `has({asked})` first");
                Mistake::new(format!("{field} is not set"), help)
            }
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
                Mistake::new("it divides by zero", "ask first whether the divisor is zero")
            }
            ExecutionError::Overflow(..) => {
                Mistake::new("a number in it becomes too large", "write it with smaller numbers")
            }
            other => Mistake::new(lower(&other.to_string()), "mend the rule: its parts do not fit together"),
        }
    }
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn kind(value: &Value) -> String {
    format!("a value of type {:?}", value.type_of()).to_lowercase()
}

/// Refuses what would be too deep or too long for the parser.
fn bounded(text: &str) -> Result<(), Mistake> {
    let help = "write two rules, or a shorter one";
    if text.len() > LONGEST {
        return Err(Mistake::new(format!("the rule has more than {LONGEST} bytes"), help));
    }
    let (mut depth, mut run, mut operators) = (0_usize, 0_usize, 0_usize);
    for letter in text.chars() {
        depth = match letter {
            '(' | '[' | '{' => depth + 1,
            ')' | ']' | '}' => depth.saturating_sub(1),
            _ => depth,
        };
        run = if matches!(letter, '!' | '-') { run + 1 } else { 0 };
        operators += usize::from("!-+*/%<>=&|?:.".contains(letter));
        if depth > DEEPEST || run > DEEPEST {
            return Err(Mistake::new(format!("the rule is more than {DEEPEST} levels deep"), help));
        }
        if operators > OPERATORS {
            return Err(Mistake::new(format!("the rule has more than {OPERATORS} operators"), help));
        }
    }
    Ok(())
}

fn syntax(errors: &cel::ParseErrors) -> Mistake {
    let first = errors.errors.first();
    let message = first.map_or_else(|| "it does not parse".to_owned(), |error| error.msg.clone());
    let column = first.map_or(0, |error| error.pos.1);
    Mistake::new(
        format!("the rule is no expression in CEL, at column {column}: {}", message.lines().next().unwrap_or_default()),
        "a rule such as `policy.rotation_interval_days <= 90` is true where it is kept",
    )
}

/// Reads what an expression speaks of.
struct Reader<'p> {
    program: &'p Program,
    roots: BTreeSet<&'static str>,
    fields: Vec<(Subject, String)>,
}

/// What is known of a part of a document: its JSON schema.
type Shape = &'static serde_json::Value;

/// What a rule may speak of: its name, what it makes the rule's subject, what it looks like.
type Root = (&'static str, Option<Subject>, serde_json::Value);

static ROOTS: LazyLock<[Root; 4]> = LazyLock::new(|| {
    [
        ("policy", Some(Subject::Policy), shape_of_policy()),
        ("key", Some(Subject::Key), shape_of::<EncryptionKey>()),
        ("plan", Some(Subject::Plan), shape_of::<PlanFacts>()),
        ("now", None, serde_json::Value::Null),
    ]
});

fn shape_of<T: JsonSchema>() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn shape_of_policy() -> serde_json::Value {
    let mut shape = shape_of::<RotationPolicy>();
    if let Some(fields) = shape.get_mut("properties").and_then(|fields| fields.as_object_mut()) {
        fields.insert(LONGEST_INTERVAL.to_owned(), serde_json::json!({ "type": "integer" }));
    }
    shape
}

/// A part of a shape, also where it may be null.
fn part(shape: Shape, name: &str) -> Option<Shape> {
    let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|word| shape.get(word)?.as_array()).flatten();
    std::iter::once(shape).chain(alternatives).find_map(|shape| shape.get(name))
}

/// The fields of an object; none for what is no object, or may have any field.
fn fields(shape: Shape) -> Option<&'static serde_json::Map<String, serde_json::Value>> {
    part(shape, "properties")?.as_object()
}

/// What the variables of a loop stand for.
type Bound = Vec<(String, Option<Shape>)>;

impl Reader<'_> {
    fn column(&self, id: u64) -> u32 {
        self.program.source_info().offset_for(id).map_or(1, |(start, _)| start + 1)
    }

    /// Reads an expression, and says what it looks like, where that is known.
    fn read(&mut self, expression: &IdedExpr, bound: &mut Bound, loops: usize) -> Result<Option<Shape>, Mistake> {
        match &expression.expr {
            Expr::Ident(name) => {
                if let Some((_, shape)) = bound.iter().rev().find(|(bound, _)| bound == name) {
                    return Ok(*shape);
                }
                let (subject, _) = self.root(name, expression.id)?;
                // By another name its fields would go unchecked.
                match subject {
                    None => Ok(None),
                    Some(_) => Err(Mistake::new(
                        format!("the rule uses `{name}` as a whole, at column {}", self.column(expression.id)),
                        format!("name a field of it, or compare it with null: `{name} == null`"),
                    )),
                }
            }
            Expr::Select(select) => {
                if let Expr::Ident(name) = &select.operand.expr
                    && !is_bound(bound, name)
                {
                    return self.field(name, &select.field, expression.id).map(Some);
                }
                match self.read(&select.operand, bound, loops)?.and_then(fields) {
                    Some(known) => self.known(&name_of(&select.operand), known, &select.field, expression.id).map(Some),
                    None => Ok(None),
                }
            }
            Expr::Call(call) if matches!(call.func_name.as_str(), "_==_" | "_!=_") => {
                for it in &call.args {
                    match &it.expr {
                        Expr::Ident(name) if !is_bound(bound, name) => drop(self.root(name, it.id)?),
                        _ => drop(self.read(it, bound, loops)?),
                    }
                }
                Ok(None)
            }
            Expr::Call(call) => {
                let mut shapes = Vec::new();
                for it in call.target.iter().map(|target| &**target).chain(&call.args) {
                    shapes.push(self.read(it, bound, loops)?);
                }
                let of_list = shapes.first().copied().flatten().and_then(|list| part(list, "items"));
                Ok(of_list.filter(|_| call.func_name == "_[_]"))
            }
            Expr::List(list) => {
                for it in &list.elements {
                    self.read(it, bound, loops)?;
                }
                Ok(None)
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            self.read(&entry.key, bound, loops)?;
                            self.read(&entry.value, bound, loops)?;
                        }
                        EntryExpr::StructField(field) => drop(self.read(&field.value, bound, loops)?),
                    }
                }
                Ok(None)
            }
            Expr::Struct(_) => Err(Mistake::new("the rule makes a message", "compare fields with plain values")),
            Expr::Comprehension(comprehension) => {
                if loops > 0 {
                    return Err(Mistake::new(
                        "the rule has a loop inside a loop (all, exists, filter, map)",
                        "its time would grow with the square of what it reads: write two rules",
                    ));
                }
                let range = self.read(&comprehension.iter_range, bound, loops)?;
                let item = range.and_then(|list| part(list, "items"));
                let before = bound.len();
                bound.extend([(comprehension.iter_var.clone(), item), (comprehension.accu_var.clone(), None)]);
                bound.extend(comprehension.iter_var2.clone().map(|name| (name, None)));
                for part in [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.read(part, bound, loops + 1)?;
                }
                bound.truncate(before);
                Ok(None)
            }
            Expr::Literal(_) | Expr::Unspecified => Ok(None),
        }
    }

    fn root(&mut self, name: &str, id: u64) -> Result<(Option<Subject>, Shape), Mistake> {
        let Some((root, subject, shape)) = ROOTS.iter().find(|(root, ..)| *root == name) else {
            let message = format!("the rule speaks of `{name}`, at column {}", self.column(id));
            return Err(Mistake::new(message, "a rule may speak of `policy`, `key`, `plan` and `now`"));
        };
        self.roots.insert(root);
        Ok((*subject, shape))
    }

    fn field(&mut self, root: &str, field: &str, id: u64) -> Result<Shape, Mistake> {
        static NONE: LazyLock<serde_json::Map<String, serde_json::Value>> = LazyLock::new(serde_json::Map::new);
        let (subject, shape) = self.root(root, id)?;
        let shape = self.known(root, fields(shape).unwrap_or(&NONE), field, id)?;
        if let Some(subject) = subject
            && !self.fields.iter().any(|(it, name)| *it == subject && name == field)
        {
            self.fields.push((subject, field.to_owned()));
        }
        Ok(shape)
    }

    /// The shape of a field, or what it may have been meant to be.
    fn known(
        &self,
        of: &str,
        known: &'static serde_json::Map<String, serde_json::Value>,
        field: &str,
        id: u64,
    ) -> Result<Shape, Mistake> {
        if let Some(shape) = known.get(field) {
            return Ok(shape);
        }
        let message = format!("`{of}` has no field `{field}`, at column {}", self.column(id));
        let nearest = known
            .keys()
            .map(|known| (strsim::jaro_winkler(known, field), known))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let help = match nearest {
            Some((_, known)) => format!("did you mean `{of}.{known}`?"),
            None => format!("its fields are {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
        };
        Err(Mistake::new(message, help))
    }
}

/// `policy.notification_settings`; of anything that is no plain name, the kind of thing that it is.
fn name_of(expression: &IdedExpr) -> String {
    match &expression.expr {
        Expr::Ident(name) => name.clone(),
        Expr::Select(select) => format!("{}.{}", name_of(&select.operand), select.field),
        Expr::Call(call) => call.args.first().map_or_else(|| "it".to_owned(), |list| format!("{}[...]", name_of(list))),
        _ => "it".to_owned(),
    }
}

fn is_bound(bound: &Bound, name: &str) -> bool {
    bound.iter().any(|(bound, _)| bound == name)
}

/// What a rule finds in a policy.
#[must_use]
pub fn policy_fields(policy: &RotationPolicy) -> serde_json::Value {
    let mut json = with_empty(policy, &EMPTY_IN_POLICY);
    let longest = Timing::new(policy).ok().and_then(|timing| timing.longest_interval_days());
    if let (Some(fields), Some(days)) = (json.as_object_mut(), longest) {
        fields.insert(LONGEST_INTERVAL.to_owned(), days.into());
    }
    json
}

/// A document as CEL sees it: whole numbers are `int`, lists and maps are there when they are empty, and what is not set is
/// not there.
fn of<T: Serialize>(document: &T, empty: &[(String, serde_json::Value)]) -> Value {
    value(with_empty(document, empty))
}

fn with_empty<T: Serialize>(document: &T, empty: &[(String, serde_json::Value)]) -> serde_json::Value {
    // Every rule that asks for a field of nothing is an error.
    let mut json = serde_json::to_value(document).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        for (name, empty) in empty {
            fields.entry(name).or_insert_with(|| empty.clone());
        }
    }
    json
}

/// What fields of a type are where the document leaves them out because they are empty.
fn empty_fields<T: JsonSchema>() -> Vec<(String, serde_json::Value)> {
    let schema = schemars::schema_for!(T).to_value();
    let fields = schema.get("properties").and_then(|properties| properties.as_object()).into_iter().flatten();
    let empty = fields.filter_map(|(name, field)| {
        let empty = match field.get("type")?.as_str()? {
            "array" => serde_json::json!([]),
            "object" => serde_json::json!({}),
            "boolean" => serde_json::json!(false),
            _ => return None,
        };
        Some((name.clone(), empty))
    });
    empty.collect()
}

static EMPTY_IN_POLICY: LazyLock<Vec<(String, serde_json::Value)>> = LazyLock::new(empty_fields::<RotationPolicy>);

static EMPTY_IN_KEY: LazyLock<Vec<(String, serde_json::Value)>> = LazyLock::new(empty_fields::<EncryptionKey>);

fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(values) => Value::from(values.into_iter().map(value).collect::<Vec<_>>()),
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, field)| !field.is_null());
            Value::from(fields.map(|(name, field)| (name, value(field))).collect::<HashMap<String, Value>>())
        }
    }
}

#[cfg(test)]
mod tests;

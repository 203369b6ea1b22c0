//! Carries a template out.
//!
//! All that a template does is paid for from one purse, steps and produced
//! text alike, so that no template runs on or fills the memory.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::parse::{Base, Branch, Command, Field, Node, Operand, Pipeline, Range};
use super::value::Item;
use super::{Fault, functions};

/// Bytes that may be produced, intermediate ones included.
const PURSE: usize = 32 << 20;
/// What a step costs in bytes.
const STEP: usize = 16;
/// Fields whose own fields are named by users, so that any name may be asked for.
const MAPS: [&str; 7] = [
    "Labels",
    "Annotations",
    "Options",
    "DriverOpts",
    "Networks",
    "Sysctls",
    "Ports",
];
/// Names of fields that an error lists.
const MOST_NAMES: usize = 24;

/// One use of a template.
#[derive(Debug)]
pub(super) struct Run<'a> {
    root: Item<'a>,
    /// The labels of the row that the root is.
    labels: Option<&'a Map<String, Value>>,
    /// The root has the columns' names, and what is made of them is a heading.
    heading: bool,
    variables: Vec<(String, Item<'a>)>,
    out: String,
    left: usize,
}

impl<'a> Run<'a> {
    pub(super) fn plain(root: &'a Value) -> Self {
        Self {
            root: Item::borrowed(root),
            labels: None,
            heading: false,
            variables: vec![(String::new(), Item::borrowed(root))],
            out: String::new(),
            left: PURSE,
        }
    }

    pub(super) fn row(root: &'a Value, labels: &'a Map<String, Value>) -> Self {
        Self {
            labels: Some(labels),
            ..Self::plain(root)
        }
    }

    pub(super) fn heading(root: &'a Value) -> Self {
        Self {
            heading: true,
            ..Self::plain(root)
        }
    }

    /// The text that comes out.
    pub(super) fn execute(mut self, nodes: &[Node]) -> Result<String, Fault> {
        let root = self.root.clone();
        self.walk(nodes, &root)?;
        Ok(self.out)
    }

    fn walk(&mut self, nodes: &[Node], dot: &Item<'a>) -> Result<(), Fault> {
        let known = self.variables.len();
        for node in nodes {
            match node {
                Node::Text(text) => {
                    self.pay(0, text.len())?;
                    self.out.push_str(text);
                }
                Node::Print(pipeline) => {
                    let item = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let text = item.shown();
                        self.pay(pipeline.at, text.len())?;
                        self.out.push_str(&text);
                    }
                }
                Node::Branch(branch) => self.branch(branch, dot)?,
                Node::Range(range) => self.range(range, dot)?,
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn branch(&mut self, branch: &Branch, dot: &Item<'a>) -> Result<(), Fault> {
        let known = self.variables.len();
        let condition = self.pipeline(&branch.condition, dot)?;
        match (condition.is_true(), branch.with) {
            (true, true) => self.walk(&branch.then, &condition)?,
            (true, false) => self.walk(&branch.then, dot)?,
            (false, _) => self.walk(&branch.otherwise, dot)?,
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn range(&mut self, range: &Range, dot: &Item<'a>) -> Result<(), Fault> {
        let at = range.over.at;
        let over = self.evaluate(&range.over, dot)?;
        let items = match self.heading {
            // A column's name stands for the whole list.
            true => vec![(Item::owned(0), over)],
            false => entries(over).map_err(|reason| Fault::new(at, reason))?,
        };
        if items.is_empty() {
            return self.walk(&range.otherwise, dot);
        }
        for (key, item) in items {
            self.pay(at, STEP)?;
            let known = self.variables.len();
            match (&range.over.variables[..], range.over.declares) {
                ([], _) => {}
                ([value], true) => self.declare(value, item.clone()),
                ([key_name, value], true) => {
                    self.declare(key_name, key);
                    self.declare(value, item.clone());
                }
                ([value], false) => self.assign(value, item.clone()),
                ([key_name, value, ..], _) => {
                    self.assign(key_name, key);
                    self.assign(value, item.clone());
                }
            }
            self.walk(&range.body, &item)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    fn declare(&mut self, name: &str, item: Item<'a>) {
        self.variables.push((name.to_owned(), item));
    }

    fn assign(&mut self, name: &str, item: Item<'a>) {
        let mut known = self.variables.iter_mut().rev();
        if let Some((_, value)) = known.find(|(known, _)| known == name) {
            *value = item;
        }
    }

    /// The pipeline's value, given to its variable where it has one.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Item<'a>) -> Result<Item<'a>, Fault> {
        let item = self.evaluate(pipeline, dot)?;
        for name in &pipeline.variables {
            match pipeline.declares {
                true => self.declare(name, item.clone()),
                false => self.assign(name, item.clone()),
            }
        }
        Ok(item)
    }

    fn evaluate(&mut self, pipeline: &Pipeline, dot: &Item<'a>) -> Result<Item<'a>, Fault> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.unwrap_or(Item::Missing))
    }

    fn command(
        &mut self,
        command: &Command,
        piped: Option<Item<'a>>,
        dot: &Item<'a>,
    ) -> Result<Item<'a>, Fault> {
        let head = &command.head;
        self.pay(head.at, STEP)?;
        if let (Base::Function(name), []) = (&head.base, &head.fields[..]) {
            return self.function(name, command, piped, dot);
        }
        if command.arguments.is_empty() && piped.is_none() {
            return self.operand(head, dot);
        }
        // The one method that a row has.
        if let (Base::Dot, [Field { name, .. }], [key]) =
            (&head.base, &head.fields[..], &command.arguments[..])
            && name == "Label"
            && piped.is_none()
        {
            let key = self.operand(key, dot)?;
            return self.label(head.at, &key);
        }
        let what = "this takes no arguments: only functions do";
        Err(Fault::new(head.at, what))
    }

    fn function(
        &mut self,
        name: &str,
        command: &Command,
        piped: Option<Item<'a>>,
        dot: &Item<'a>,
    ) -> Result<Item<'a>, Fault> {
        let at = command.head.at;
        let mut arguments = Vec::new();
        for argument in &command.arguments {
            let item = self.operand(argument, dot)?;
            // `and` and `or` leave alone what comes behind the decision.
            if (name == "and" && !item.is_true()) || (name == "or" && item.is_true()) {
                return Ok(item);
            }
            arguments.push(item);
        }
        arguments.extend(piped);
        if self.heading
            && let Some(heading) = heading_of(name, &mut arguments)
        {
            return Ok(heading);
        }
        let item = functions::call(name, &arguments).map_err(|reason| Fault::new(at, reason))?;
        self.pay(at, cost(&item))?;
        Ok(item)
    }

    fn label(&self, at: usize, key: &Item<'a>) -> Result<Item<'a>, Fault> {
        let key = key
            .as_str()
            .ok_or_else(|| Fault::new(at, "a label's key is a text"))?;
        if self.heading {
            return Ok(label_heading(key));
        }
        let labels = self
            .labels
            .ok_or_else(|| Fault::new(at, "there are no labels here"))?;
        Ok(labels
            .get(key)
            .map_or(Item::Text(String::new()), Item::borrowed))
    }

    fn operand(&mut self, operand: &Operand, dot: &Item<'a>) -> Result<Item<'a>, Fault> {
        let mut item = match &operand.base {
            Base::Dot if !operand.fields.is_empty() && self.is_labels(operand, dot) => {
                match self.labels {
                    Some(labels) => Item::Labels(labels),
                    None => dot.clone(),
                }
            }
            Base::Dot => dot.clone(),
            Base::Nothing => Item::owned(Value::Null),
            Base::Variable(name) => self.variable(name, operand.at)?,
            Base::Function(name) => {
                let result = functions::call(name, &[]);
                result.map_err(|reason| Fault::new(operand.at, reason))?
            }
            Base::Text(text) => Item::Text(text.clone()),
            Base::Value(value) => Item::owned(value.clone()),
            Base::Pipeline(pipeline) => self.evaluate(pipeline, dot)?,
        };
        let taken =
            usize::from(matches!(item, Item::Labels(_)) && matches!(operand.base, Base::Dot));
        let mut parent = match taken {
            0 => None,
            _ => Some("Labels"),
        };
        for field in operand.fields.iter().skip(taken) {
            item = item.field(field, parent)?;
            parent = Some(&field.name);
        }
        Ok(item)
    }

    /// Whether the operand is the labels of the row that `dot` is.
    fn is_labels(&self, operand: &Operand, dot: &Item<'a>) -> bool {
        let root = match (dot, &self.root) {
            (Item::Data(Cow::Borrowed(dot)), Item::Data(Cow::Borrowed(root))) => {
                std::ptr::eq::<Value>(*dot, *root)
            }
            _ => false,
        };
        root && self.labels.is_some() && operand.fields[0].name == "Labels"
    }

    fn variable(&self, name: &str, at: usize) -> Result<Item<'a>, Fault> {
        let mut known = self.variables.iter().rev();
        let found = known.find(|(known, _)| known == name);
        found
            .map(|(_, item)| item.clone())
            .ok_or_else(|| Fault::new(at, format!("${name} is not set here")))
    }

    fn pay(&mut self, at: usize, price: usize) -> Result<(), Fault> {
        match self.left.checked_sub(price) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Fault::new(at, "this makes more than can be printed")),
        }
    }
}

impl<'a> Item<'a> {
    /// One of its fields; `parent` is the name of the field that it is itself.
    fn field(self, field: &Field, parent: Option<&str>) -> Result<Self, Fault> {
        let name = &field.name;
        let fault = |reason: String| Err(Fault::new(field.at, reason));
        let found = match &self {
            Self::Labels(labels) => {
                return Ok(labels.get(name).map_or(Self::Missing, Self::borrowed));
            }
            Self::Data(Cow::Borrowed(Value::Object(fields))) => {
                fields.get(name).map(Self::borrowed)
            }
            Self::Data(Cow::Owned(Value::Object(fields))) => {
                fields.get(name).cloned().map(Self::owned)
            }
            Self::Missing => return Ok(Self::Missing),
            Self::Data(value) if value.is_null() => {
                return fault(format!("there is nothing that could have a field {name}"));
            }
            _ => return fault(format!("a plain value has no field {name}")),
        };
        match (found, &self) {
            (Some(item), _) => Ok(item),
            (None, _) if parent.is_some_and(|parent| MAPS.contains(&parent)) => Ok(Self::Missing),
            (None, Self::Data(value)) => fault(no_field(name, value)),
            (None, _) => Ok(Self::Missing),
        }
    }
}

fn no_field(name: &str, value: &Value) -> String {
    let names: Vec<&str> = value
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .take(MOST_NAMES)
        .collect();
    format!("there is no field {name}; there are {}", names.join(", "))
}

/// What a range goes through, with its indices or keys.
fn entries(over: Item<'_>) -> Result<Vec<(Item<'_>, Item<'_>)>, String> {
    let value = match over {
        Item::Missing => return Ok(Vec::new()),
        Item::Labels(labels) => return Ok(pairs(labels)),
        Item::Text(_) => return Err("a range goes through lists and maps only".to_owned()),
        Item::Data(value) => value,
    };
    Ok(match value {
        Cow::Borrowed(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(index, item)| (Item::owned(index), Item::borrowed(item)))
            .collect(),
        Cow::Owned(Value::Array(items)) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| (Item::owned(index), Item::owned(item)))
            .collect(),
        Cow::Borrowed(Value::Object(fields)) => pairs(fields),
        Cow::Owned(Value::Object(fields)) => fields
            .into_iter()
            .map(|(key, field)| (Item::owned(key), Item::owned(field)))
            .collect(),
        Cow::Borrowed(Value::Null) | Cow::Owned(Value::Null) => Vec::new(),
        _ => return Err("a range goes through lists and maps only".to_owned()),
    })
}

fn pairs(fields: &Map<String, Value>) -> Vec<(Item<'_>, Item<'_>)> {
    let pairs = fields.iter();
    pairs
        .map(|(key, field)| (Item::owned(key.as_str()), Item::borrowed(field)))
        .collect()
}

/// What a result takes in memory, roughly.
fn cost(item: &Item<'_>) -> usize {
    match item {
        Item::Text(text) => text.len(),
        Item::Data(Cow::Owned(value)) => match value {
            Value::String(text) => text.len(),
            Value::Array(items) => {
                let texts = items.iter().filter_map(Value::as_str);
                items.len() * size_of::<Value>() + texts.map(str::len).sum::<usize>()
            }
            _ => 0,
        },
        _ => 0,
    }
}

/// The functions that leave a column's name as it is.
fn heading_of<'a>(name: &str, arguments: &mut Vec<Item<'a>>) -> Option<Item<'a>> {
    match (name, arguments.len()) {
        ("json" | "title" | "lower" | "upper" | "len", _) => arguments.pop(),
        ("truncate" | "slice" | "pad", 1..) => Some(arguments.swap_remove(0)),
        ("join" | "split", 1..) if arguments[0].as_str().is_some() => {
            Some(arguments.swap_remove(0))
        }
        ("index", 2..) => Some(label_heading(&arguments[1].shown())),
        _ => None,
    }
}

/// `com.example.some-label` becomes `some label`, as with Docker.
fn label_heading<'a>(key: &str) -> Item<'a> {
    let last = key.rsplit('.').next().unwrap_or_default();
    Item::Text(last.replace(['-', '_'], " "))
}

//! From tokens to a tree.
//!
//! ```text
//!  template := { text | action }
//!  action   := pipeline | if … [else if …] [else …] end | with … | range … | comment
//!  pipeline := [$x [, $y] (:= | =)] command { "|" command }
//!  command  := operand { operand }
//!  operand  := ( . | $x | function | literal | "(" pipeline ")" ) { .Field }
//! ```

use super::lexer::{Kind, Piece, Token, pieces};
use super::{Fault, MAX_DEPTH, functions};

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    Branch(Branch),
    Range(Range),
}

/// `if` and `with`.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) condition: Pipeline,
    /// `.` becomes the condition's value.
    pub(super) with: bool,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct Range {
    pub(super) over: Pipeline,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) at: usize,
    /// The variables that take the result.
    pub(super) variables: Vec<String>,
    /// The variable is a new one.
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) head: Operand,
    pub(super) arguments: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) base: Base,
    pub(super) fields: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) at: usize,
    pub(super) name: String,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Nothing,
    Variable(String),
    Function(String),
    Text(String),
    Value(serde_json::Value),
    Pipeline(Box<Pipeline>),
}

/// Reads a template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, Fault> {
    let mut parser = Parser {
        pieces: pieces(source)?.into_iter(),
        end: source.len(),
        depth: 0,
        // `$` is the value that the template is given.
        variables: vec![String::new()],
    };
    match parser.block()? {
        (nodes, Stop::Source) => Ok(nodes),
        (_, Stop::End { at } | Stop::Else { at, .. }) => {
            Err(Fault::new(at, "no block is open here"))
        }
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    end: usize,
    depth: usize,
    variables: Vec<String>,
}

/// What ended a block.
enum Stop {
    Source,
    End { at: usize },
    Else { at: usize, rest: Vec<Token> },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    If,
    With,
    Range,
}

impl Block {
    fn of(word: &str) -> Option<Self> {
        match word {
            "if" => Some(Self::If),
            "with" => Some(Self::With),
            "range" => Some(Self::Range),
            _ => None,
        }
    }
}

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, Stop), Fault> {
        let mut nodes = Vec::new();
        loop {
            let tokens = match self.pieces.next() {
                None => return Ok((nodes, Stop::Source)),
                Some(Piece::Text(text)) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Some(Piece::Action(tokens)) => tokens,
            };
            let word = match tokens.first() {
                Some(Token {
                    kind: Kind::Word(word),
                    at,
                    ..
                }) => Some((word.clone(), *at)),
                _ => None,
            };
            match word {
                Some((word, at)) if word == "end" => {
                    expect_end(&tokens, 1)?;
                    return Ok((nodes, Stop::End { at }));
                }
                Some((word, at)) if word == "else" => {
                    let rest = tokens[1..].to_vec();
                    return Ok((nodes, Stop::Else { at, rest }));
                }
                Some((word, at)) if let Some(block) = Block::of(&word) => {
                    nodes.push(self.compound(block, at, &tokens[1..])?);
                }
                _ => nodes.push(Node::Print(self.whole_pipeline(&tokens, 1)?)),
            }
        }
    }

    /// A block, its first tokens being those behind the word that opens it.
    fn compound(&mut self, block: Block, at: usize, tokens: &[Token]) -> Result<Node, Fault> {
        self.deeper(at)?;
        let known = self.variables.len();
        let most = if block == Block::Range { 2 } else { 1 };
        let pipeline = self.whole_pipeline(tokens, most)?;
        let conditioned = self.variables.len();
        let (body, stop) = self.block()?;
        // What is declared inside is known inside only.
        self.variables.truncate(conditioned);
        let otherwise = match stop {
            Stop::Source => return Err(Fault::new(at, "this block lacks its {{end}}")),
            Stop::End { .. } => Vec::new(),
            Stop::Else { at, rest } => self.otherwise(block, at, &rest)?,
        };
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(match block {
            Block::Range => Node::Range(Range {
                over: pipeline,
                body,
                otherwise,
            }),
            Block::If | Block::With => Node::Branch(Branch {
                condition: pipeline,
                with: block == Block::With,
                then: body,
                otherwise,
            }),
        })
    }

    /// The part behind `else`; `else if` is an `if` in it that needs no `end` of its own.
    fn otherwise(&mut self, block: Block, at: usize, rest: &[Token]) -> Result<Vec<Node>, Fault> {
        if let Some(Token {
            kind: Kind::Word(word),
            at,
            ..
        }) = rest.first()
            && let Some(inner) = Block::of(word)
            && inner == block
            && inner != Block::Range
        {
            return Ok(vec![self.compound(inner, *at, &rest[1..])?]);
        }
        expect_end(rest, 0)?;
        let known = self.variables.len();
        let (nodes, stop) = self.block()?;
        self.variables.truncate(known);
        match stop {
            Stop::End { .. } => Ok(nodes),
            Stop::Source => Err(Fault::new(at, "this block lacks its {{end}}")),
            Stop::Else { at, .. } => Err(Fault::new(at, "there already was an else")),
        }
    }

    /// A pipeline that fills the action.
    fn whole_pipeline(&mut self, tokens: &[Token], most: usize) -> Result<Pipeline, Fault> {
        let mut tokens = Tokens {
            tokens,
            position: 0,
            end: self.end,
        };
        let (variables, declares) = self.assignment(&mut tokens, most)?;
        let mut pipeline = self.pipeline(&mut tokens)?;
        if !tokens.at_end() {
            return Err(Fault::new(tokens.at(), "this does not belong here"));
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        pipeline.variables = variables;
        pipeline.declares = declares;
        Ok(pipeline)
    }

    /// `$x :=`, `$x =` or, in a range, `$i, $x :=`.
    fn assignment(
        &self,
        tokens: &mut Tokens<'_>,
        most: usize,
    ) -> Result<(Vec<String>, bool), Fault> {
        let names: Vec<(String, usize)> = tokens
            .rest()
            .iter()
            .step_by(2)
            .map_while(|token| match &token.kind {
                Kind::Variable(name) if !name.is_empty() => Some((name.clone(), token.at)),
                _ => None,
            })
            .take(most)
            .collect();
        let joined = |count: usize| (1..count).all(|n| tokens.kind(2 * n - 1) == &Kind::Comma);
        for count in (1..=names.len()).rev() {
            let declares = match tokens.kind(2 * count - 1) {
                Kind::Declare => true,
                Kind::Assign => false,
                _ => continue,
            };
            if !joined(count) {
                continue;
            }
            tokens.position += 2 * count;
            let names = &names[..count];
            if !declares
                && let Some((name, at)) = names.iter().find(|(it, _)| !self.variables.contains(it))
            {
                return Err(Fault::new(*at, format!("there is no variable ${name}")));
            }
            return Ok((
                names.iter().map(|(name, _)| name.clone()).collect(),
                declares,
            ));
        }
        Ok((Vec::new(), false))
    }

    fn pipeline(&mut self, tokens: &mut Tokens<'_>) -> Result<Pipeline, Fault> {
        let at = tokens.at();
        let mut commands = vec![self.command(tokens)?];
        while tokens.kind(0) == &Kind::Pipe {
            tokens.position += 1;
            commands.push(self.command(tokens)?);
        }
        Ok(Pipeline {
            at,
            variables: Vec::new(),
            declares: false,
            commands,
        })
    }

    fn command(&mut self, tokens: &mut Tokens<'_>) -> Result<Command, Fault> {
        let head = match self.operand(tokens)? {
            Some(head) => head,
            None if tokens.at_end() => {
                return Err(Fault::new(tokens.at(), "something is missing here"));
            }
            None => return Err(Fault::new(tokens.at(), "this does not belong here")),
        };
        let mut arguments = Vec::new();
        while let Some(operand) = self.operand(tokens)? {
            arguments.push(operand);
        }
        Ok(Command { head, arguments })
    }

    fn operand(&mut self, tokens: &mut Tokens<'_>) -> Result<Option<Operand>, Fault> {
        let at = tokens.at();
        let mut fields = Vec::new();
        let base = match tokens.kind(0).clone() {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(Field { at, name });
                Base::Dot
            }
            Kind::Variable(name) if self.variables.contains(&name) => Base::Variable(name),
            Kind::Variable(name) => {
                return Err(Fault::new(at, format!("there is no variable ${name}")));
            }
            Kind::Word(word) => word_base(&word, at)?,
            Kind::Text(text) => Base::Text(text),
            Kind::Integer(number) => Base::Value(number.into()),
            Kind::Float(number) => Base::Value(number.into()),
            Kind::Open => Base::Pipeline(Box::new(self.parenthesis(tokens)?)),
            _ => return Ok(None),
        };
        tokens.position += 1;
        while let Some(Token {
            kind: Kind::Field(name),
            at,
            glued: true,
        }) = tokens.rest().first()
        {
            fields.push(Field {
                at: *at,
                name: name.clone(),
            });
            tokens.position += 1;
        }
        Ok(Some(Operand { at, base, fields }))
    }

    /// What is in parentheses; stops at the closing one.
    fn parenthesis(&mut self, tokens: &mut Tokens<'_>) -> Result<Pipeline, Fault> {
        let at = tokens.at();
        self.deeper(at)?;
        tokens.position += 1;
        let pipeline = self.pipeline(tokens)?;
        if tokens.kind(0) != &Kind::Close {
            return Err(Fault::new(at, "'(' lacks its ')'"));
        }
        self.depth -= 1;
        Ok(pipeline)
    }

    fn deeper(&mut self, at: usize) -> Result<(), Fault> {
        self.depth += 1;
        match self.depth > MAX_DEPTH {
            true => Err(Fault::new(at, "it is nested too deep")),
            false => Ok(()),
        }
    }
}

fn word_base(word: &str, at: usize) -> Result<Base, Fault> {
    Ok(match word {
        "true" => Base::Value(true.into()),
        "false" => Base::Value(false.into()),
        "nil" => Base::Nothing,
        "define" | "template" | "block" | "break" | "continue" => {
            return Err(Fault::new(at, format!("'{word}' is not supported")));
        }
        _ if functions::exists(word) => Base::Function(word.to_owned()),
        _ => return Err(Fault::new(at, format!("there is no function '{word}'"))),
    })
}

fn expect_end(tokens: &[Token], position: usize) -> Result<(), Fault> {
    match tokens.get(position) {
        Some(token) if token.kind != Kind::End => {
            Err(Fault::new(token.at, "this does not belong here"))
        }
        _ => Ok(()),
    }
}

/// The tokens of one action.
struct Tokens<'a> {
    tokens: &'a [Token],
    position: usize,
    end: usize,
}

impl Tokens<'_> {
    fn rest(&self) -> &[Token] {
        self.tokens.get(self.position..).unwrap_or_default()
    }

    fn kind(&self, ahead: usize) -> &Kind {
        self.rest()
            .get(ahead)
            .map_or(&Kind::End, |token| &token.kind)
    }

    fn at(&self) -> usize {
        self.rest().first().map_or(self.end, |token| token.at)
    }

    fn at_end(&self) -> bool {
        self.kind(0) == &Kind::End
    }
}

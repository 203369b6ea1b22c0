//! Cuts a template into text and actions, and actions into tokens.

use super::Fault;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Piece {
    /// Text between actions, as it is to be printed.
    Text(String),
    /// What stands between `{{` and `}}`.
    Action(Vec<Token>),
}

/// A token, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: usize,
    /// Nothing stands between it and the token before.
    pub(super) glued: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// `.`
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`, without the `$`
    Variable(String),
    Word(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Pipe,
    Open,
    Close,
    Comma,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    /// The end of the action.
    End,
}

/// Cuts the whole template.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    let mut position = 0;
    let mut trim_left = false;
    loop {
        let rest = &source[position..];
        let open = rest.find("{{");
        let text = &rest[..open.unwrap_or(rest.len())];
        let after = open.map(|open| position + open + 2);
        // `{{-` and a space take the white space before them away.
        let trim_right = after.is_some_and(|after| trims(&source[after..]));
        push_text(&mut pieces, text, trim_left, trim_right);
        let Some(mut after) = after else {
            return Ok(pieces);
        };
        if trim_right {
            after += 1;
        }
        let action = Action::cut(source, after)?;
        trim_left = action.trim_left;
        position = action.end;
        if let Some(tokens) = action.tokens {
            pieces.push(Piece::Action(tokens));
        }
    }
}

fn trims(action: &str) -> bool {
    let mut characters = action.chars();
    characters.next() == Some('-') && characters.next().is_some_and(char::is_whitespace)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_left: bool, trim_right: bool) {
    let text = if trim_left { text.trim_start() } else { text };
    let text = if trim_right { text.trim_end() } else { text };
    if !text.is_empty() {
        // Typed on a command line, these two mean what they look like.
        pieces.push(Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
    }
}

struct Action {
    /// None in a comment.
    tokens: Option<Vec<Token>>,
    /// The byte behind `}}`.
    end: usize,
    trim_left: bool,
}

impl Action {
    /// Reads the action whose content starts at byte `start`.
    fn cut(source: &str, start: usize) -> Result<Self, Fault> {
        if let Some(comment) = source[start..].trim_start().strip_prefix("/*") {
            return Self::comment(source, comment);
        }
        let mut cursor = Cursor {
            source,
            position: start,
        };
        let mut tokens = Vec::new();
        loop {
            let space = cursor.skip_space();
            let at = cursor.position;
            let rest = cursor.rest();
            let closing = [("}}", false), ("-}}", true)]
                .into_iter()
                .find(|(text, needs_space)| rest.starts_with(text) && (space || !needs_space));
            if let Some((text, trim_left)) = closing {
                tokens.push(Token {
                    kind: Kind::End,
                    at,
                    glued: false,
                });
                return Ok(Self {
                    tokens: Some(tokens),
                    end: at + text.len(),
                    trim_left,
                });
            }
            if rest.is_empty() {
                return Err(Fault::new(start.saturating_sub(2), "'{{' lacks its '}}'"));
            }
            let kind = cursor.token()?;
            tokens.push(Token {
                kind,
                at,
                glued: !space && !tokens.is_empty(),
            });
        }
    }

    fn comment(source: &str, comment: &str) -> Result<Self, Fault> {
        let start = source.len() - comment.len();
        let lacks_end = || Fault::new(start - 2, "the comment lacks its '*/}}'");
        let end = start + comment.find("*/").ok_or_else(lacks_end)? + 2;
        let rest = &source[end..];
        let closing = rest.trim_start();
        let close = closing.strip_prefix('-').unwrap_or(closing);
        let after = close.strip_prefix("}}").ok_or_else(lacks_end)?;
        Ok(Self {
            tokens: None,
            end: source.len() - after.len(),
            trim_left: closing.starts_with('-'),
        })
    }
}

struct Cursor<'a> {
    source: &'a str,
    position: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &str {
        &self.source[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.position += next.len_utf8();
        Some(next)
    }

    fn skip_space(&mut self) -> bool {
        let rest = self.rest();
        let skipped = rest.len() - rest.trim_start().len();
        self.position += skipped;
        skipped > 0
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        let taken = rest[..end].to_owned();
        self.position += end;
        taken
    }

    fn name(&mut self) -> String {
        self.take_while(|c| c.is_alphanumeric() || c == '_')
    }

    /// The token that starts here; something does.
    fn token(&mut self) -> Result<Kind, Fault> {
        let at = self.position;
        let first = self.next().unwrap_or_default();
        Ok(match first {
            '|' => Kind::Pipe,
            '(' => Kind::Open,
            ')' => Kind::Close,
            ',' => Kind::Comma,
            '=' => Kind::Assign,
            ':' if self.peek() == Some('=') => {
                self.next();
                Kind::Declare
            }
            '$' => Kind::Variable(self.name()),
            '"' => Kind::Text(self.quoted(at)?),
            '`' => Kind::Text(self.raw(at)?),
            '.' if self.peek().is_some_and(|c| c.is_alphabetic() || c == '_') => {
                Kind::Field(self.name())
            }
            '.' => Kind::Dot,
            '0'..='9' | '-' | '+' => {
                self.position = at;
                self.number()?
            }
            c if c.is_alphabetic() || c == '_' => {
                self.position = at;
                Kind::Word(self.name())
            }
            c => return Err(Fault::new(at, format!("'{c}' has no meaning here"))),
        })
    }

    fn number(&mut self) -> Result<Kind, Fault> {
        let at = self.position;
        let text = self.take_while(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'));
        let integer = text.parse().map(Kind::Integer).ok();
        let float = || text.parse().map(Kind::Float).ok();
        let number = integer.or_else(float);
        // Rust also reads `+inf` and the like.
        number
            .filter(|_| text.bytes().any(|byte| byte.is_ascii_digit()))
            .filter(|number| !matches!(number, Kind::Float(value) if !value.is_finite()))
            .ok_or_else(|| Fault::new(at, format!("'{text}' is not a number")))
    }

    fn raw(&mut self, at: usize) -> Result<String, Fault> {
        let text = self.take_while(|c| c != '`');
        match self.next() {
            Some(_) => Ok(text),
            None => Err(Fault::new(at, "the text lacks its closing '`'")),
        }
    }

    fn quoted(&mut self, at: usize) -> Result<String, Fault> {
        let mut text = String::new();
        loop {
            let escape_at = self.position;
            match self.next() {
                None | Some('\n') => return Err(Fault::new(at, "the text lacks its closing '\"'")),
                Some('"') => return Ok(text),
                Some('\\') => text.push(
                    self.escape()
                        .ok_or_else(|| Fault::new(escape_at, "there is no such escape"))?,
                ),
                Some(c) => text.push(c),
            }
        }
    }

    /// What follows a backslash (Go's interpreted string literals).
    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            c @ ('\\' | '"' | '\'') => c,
            'x' => self.code(2)?,
            'u' => self.code(4)?,
            'U' => self.code(8)?,
            _ => return None,
        })
    }

    fn code(&mut self, digits: usize) -> Option<char> {
        let text = self.rest().get(..digits)?;
        let code = u32::from_str_radix(text, 16).ok()?;
        self.position += digits;
        char::from_u32(code)
    }
}

//! From words to a tree.

use super::lexer::{Token, tokens};

/// A condition or a part of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Or(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Compare(Box<Node>, Comparison, Box<Node>),
    IsNull(Box<Node>),
    Between(Box<Node>, Box<Node>, Box<Node>),
    In(Box<Node>, Vec<String>),
    Matches(Box<Node>, Matching, String),
    Property(String),
    Number(f64),
    Text(String),
    Boolean(bool),
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matching {
    Contains,
    StartsWith,
    EndsWith,
}

/// Conditions come from clients: their depth is bounded, so that neither parsing nor evaluating can exhaust the stack.
const DEPTH_MAX: usize = 64;

pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, nodes: 0 };
    let node = parser.or()?;
    match parser.peek() {
        Token::End => Ok(node),
        found => Err(format!("expected AND, OR or the end, found {found}")),
    }
}

/// Operands and operators in one condition, at most.
const NODES_MAX: usize = 1_024;

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    nodes: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    fn accept(&mut self, keyword: &str) -> bool {
        let found = self.peek().is(keyword);
        self.at += usize::from(found);
        found
    }

    fn expect_sign(&mut self, sign: &'static str) -> Result<(), String> {
        match self.next() {
            Token::Sign(found) if found == sign => Ok(()),
            found => Err(format!("expected {sign}, found {found}")),
        }
    }

    fn expect(&mut self, keyword: &str) -> Result<(), String> {
        if self.accept(keyword) { Ok(()) } else { Err(format!("expected {keyword}, found {}", self.peek())) }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.next() {
            Token::Text(text) => Ok(text),
            found => Err(format!("expected text in quotes, found {found}")),
        }
    }

    /// One level deeper.
    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Result<Node, String>) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("a condition may be nested at most {DEPTH_MAX} times"));
        }
        let node = inner(self);
        self.depth -= 1;
        node
    }

    fn count(&mut self) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(format!("a condition may have at most {NODES_MAX} operands"));
        }
        Ok(())
    }

    fn or(&mut self) -> Result<Node, String> {
        let mut node = self.and()?;
        while self.accept("OR") {
            node = Node::Or(Box::new(node), Box::new(self.and()?));
        }
        Ok(node)
    }

    fn and(&mut self) -> Result<Node, String> {
        let mut node = self.not()?;
        while self.accept("AND") {
            node = Node::And(Box::new(node), Box::new(self.not()?));
        }
        Ok(node)
    }

    fn not(&mut self) -> Result<Node, String> {
        if self.accept("NOT") {
            return self.nested(|parser| Ok(Node::Not(Box::new(parser.not()?))));
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Result<Node, String> {
        let left = Box::new(self.operand()?);
        if let Token::Sign(sign) = self.peek()
            && let Some(comparison) = comparison(sign)
        {
            self.next();
            return Ok(Node::Compare(left, comparison, Box::new(self.operand()?)));
        }
        if self.accept("IS") {
            let is_not = self.accept("NOT");
            self.expect("NULL")?;
            return Ok(negated(is_not, Node::IsNull(left)));
        }
        let is_not = self.accept("NOT");
        if self.accept("BETWEEN") {
            let low = Box::new(self.operand()?);
            self.expect("AND")?;
            return Ok(negated(is_not, Node::Between(left, low, Box::new(self.operand()?))));
        }
        if self.accept("IN") {
            self.expect_sign("(")?;
            let mut texts = vec![self.text()?];
            while *self.peek() == Token::Sign(",") {
                self.next();
                self.count()?;
                texts.push(self.text()?);
            }
            self.expect_sign(")")?;
            return Ok(negated(is_not, Node::In(left, texts)));
        }
        for (keyword, matching) in
            [("CONTAINS", Matching::Contains), ("STARTSWITH", Matching::StartsWith), ("ENDSWITH", Matching::EndsWith)]
        {
            if self.accept(keyword) {
                return Ok(negated(is_not, Node::Matches(left, matching, self.text()?)));
            }
        }
        if is_not {
            return Err(format!("expected BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH, found {}", self.peek()));
        }
        Ok(*left)
    }

    fn operand(&mut self) -> Result<Node, String> {
        self.count()?;
        match self.next() {
            Token::Number(number) => Ok(Node::Number(number)),
            Token::Sign("-") => match self.next() {
                Token::Number(number) => Ok(Node::Number(-number)),
                found => Err(format!("expected a number behind -, found {found}")),
            },
            Token::Text(text) => Ok(Node::Text(text)),
            Token::Sign("(") => {
                let node = self.nested(Self::or)?;
                self.expect_sign(")")?;
                Ok(node)
            }
            word if word.is("TRUE") => Ok(Node::Boolean(true)),
            word if word.is("FALSE") => Ok(Node::Boolean(false)),
            word if word.is("NULL") => Ok(Node::Null),
            Token::Word(word) if !is_reserved(&word) => Ok(Node::Property(word)),
            found => Err(format!("expected a name, a number or text in quotes, found {found}")),
        }
    }
}

fn is_reserved(word: &str) -> bool {
    ["AND", "OR", "NOT", "IS", "IN", "BETWEEN"].iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

fn negated(is_not: bool, node: Node) -> Node {
    if is_not { Node::Not(Box::new(node)) } else { node }
}

fn comparison(sign: &str) -> Option<Comparison> {
    Some(match sign {
        "=" => Comparison::Equal,
        "<>" | "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

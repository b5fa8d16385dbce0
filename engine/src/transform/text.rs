//! The SQL as text: its limits, its tokens, its statement, and byte offsets for error messages.

use datafusion::sql::sqlparser::ast::{Spanned, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::SqlError;

/// Longest SQL text.
pub(super) const SQL_BYTES_MAX: usize = 64 * 1024;

/// Deepest expression: parsers, planners and evaluation recurse, and an overflow of the stack aborts the process.
pub(super) const DEPTH_MAX: usize = 200;

/// Deepest recursion of the parser, in its own count: parentheses, function calls, unary operators.
const PARSER_RECURSION_MAX: usize = 100;

/// A SQL text within its limits, cut into tokens.
pub(super) struct Text<'s> {
    sql: &'s str,
    /// Without white space and comments.
    tokens: Vec<TokenWithSpan>,
}

impl<'s> Text<'s> {
    /// Checks length and depth, and cuts `sql` into tokens.
    pub(super) fn new(sql: &'s str) -> Result<Self, SqlError> {
        if sql.len() > SQL_BYTES_MAX {
            let message = format!("the SQL has {} bytes; at most {SQL_BYTES_MAX} are allowed", sql.len());
            return Err(SqlError::new(None, message));
        }
        let tokens = Tokenizer::new(&GenericDialect {}, sql)
            .tokenize_with_location()
            .map_err(|error| {
                SqlError::new(
                    offset(sql, error.location),
                    format!("syntax error in [features] sql: {}", error.message),
                )
            })?;
        let tokens = tokens.into_iter().filter(|token| !is_space(&token.token)).collect();
        let text = Self { sql, tokens };
        text.check_depth()?;
        Ok(text)
    }

    /// The one statement of the text.
    pub(super) fn parse(&self) -> Result<Statement, SqlError> {
        self.check_single()?;
        let mut statements = Parser::new(&GenericDialect {})
            .with_recursion_limit(PARSER_RECURSION_MAX)
            .with_tokens_with_locations(self.tokens.clone())
            .parse_statements()
            .map_err(|error| self.syntax_error(&error))?;
        match (statements.pop(), statements.is_empty()) {
            (Some(statement), true) => Ok(statement),
            _ => Err(SqlError::new(None, "[features] sql must hold one SELECT")),
        }
    }

    /// Byte offset of a location of the parser's; `None` for its empty location.
    pub(super) fn offset(&self, location: Location) -> Option<usize> {
        offset(self.sql, location)
    }

    /// Byte offset of the start of a node of the syntax tree, where the parser kept it.
    pub(super) fn start_of(&self, node: &impl Spanned) -> Option<usize> {
        self.offset(node.span().start)
    }

    /// Byte offset of the first of `keywords` outside of parentheses, or else anywhere.
    pub(super) fn keyword(&self, keywords: &[Keyword]) -> Option<usize> {
        let is_it = |token: &&TokenWithSpan| keyword_of(&token.token).is_some_and(|it| keywords.contains(&it));
        let outer = self.outer().find(is_it);
        outer
            .or_else(|| self.tokens.iter().find(is_it))
            .and_then(|token| self.offset(token.span.start))
    }

    /// Byte offset of each item of the `SELECT` list.
    pub(super) fn items(&self) -> Vec<Option<usize>> {
        let mut starts = Vec::new();
        let mut item_begins = false;
        for token in self.outer() {
            match keyword_of(&token.token) {
                Some(Keyword::FROM | Keyword::WHERE) => break,
                Some(Keyword::SELECT) if starts.is_empty() => item_begins = true,
                Some(Keyword::ALL) if starts.is_empty() => {}
                _ if token.token == Token::Comma => item_begins = true,
                _ if item_begins => {
                    starts.push(self.offset(token.span.start));
                    item_begins = false;
                }
                _ => {}
            }
        }
        starts
    }

    /// Byte offset of the first token after `WHERE`.
    pub(super) fn predicate(&self) -> Option<usize> {
        let mut outer = self
            .outer()
            .skip_while(|token| keyword_of(&token.token) != Some(Keyword::WHERE));
        outer.nth(1).and_then(|token| self.offset(token.span.start))
    }

    /// The first token, if there is one.
    pub(super) fn first(&self) -> Option<&TokenWithSpan> {
        self.tokens.first()
    }

    /// The tokens outside of all parentheses, including the parentheses that open.
    fn outer(&self) -> impl Iterator<Item = &TokenWithSpan> {
        let mut depth = 0_usize;
        self.tokens.iter().filter(move |token| {
            let is_outer = depth == 0;
            match token.token {
                Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
                Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
                _ => {}
            }
            is_outer
        })
    }

    fn check_single(&self) -> Result<(), SqlError> {
        let mut after = self.tokens.iter().skip_while(|token| token.token != Token::SemiColon);
        let Some(second) = after.find(|token| token.token != Token::SemiColon) else {
            return Ok(());
        };
        Err(SqlError::new(
            self.offset(second.span.start),
            "[features] sql must be one statement; a second begins here",
        ))
    }

    fn check_depth(&self) -> Result<(), SqlError> {
        let Some(at) = too_deep(&self.tokens, DEPTH_MAX) else {
            return Ok(());
        };
        let message = format!("the SQL nests deeper than {DEPTH_MAX} operators and parentheses");
        Err(SqlError::new(self.offset(at), message).help("split the expression into several columns"))
    }

    fn syntax_error(&self, error: &ParserError) -> SqlError {
        let text = match error {
            ParserError::RecursionLimitExceeded => {
                let message = format!("the SQL nests deeper than {PARSER_RECURSION_MAX} parentheses or calls");
                return SqlError::new(None, message).help("split the expression into several columns");
            }
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
        };
        let (text, location) = split_location(text);
        let at = location
            .and_then(|location| self.offset(location))
            .unwrap_or(self.sql.trim_end().len());
        SqlError::new(Some(at), format!("syntax error in [features] sql: {text}"))
    }
}

fn is_space(token: &Token) -> bool {
    matches!(
        token,
        Token::Whitespace(
            Whitespace::Space
                | Whitespace::Newline
                | Whitespace::Tab
                | Whitespace::SingleLineComment { .. }
                | Whitespace::MultiLineComment(_)
        )
    )
}

fn keyword_of(token: &Token) -> Option<Keyword> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

/// Lines and columns count from one, columns in characters.
fn offset(sql: &str, location: Location) -> Option<usize> {
    if location.line == 0 {
        return None;
    }
    let (mut line, mut column) = (1, 1);
    for (at, character) in sql.char_indices() {
        if (line, column) == (location.line, location.column) {
            return Some(at);
        }
        (line, column) = if character == '\n' {
            (line + 1, 1)
        } else {
            (line, column + 1)
        };
    }
    Some(sql.len())
}

/// Takes the ` at Line: 3, Column: 7` from the end of a parser's message.
fn split_location(text: &str) -> (&str, Option<Location>) {
    let Some((message, place)) = text.rsplit_once(" at Line: ") else {
        return (text, None);
    };
    let location = place.split_once(", Column: ").and_then(|(line, column)| {
        Some(Location {
            line: line.parse().ok()?,
            column: column.trim().parse().ok()?,
        })
    });
    if location.is_some() {
        (message, location)
    } else {
        (text, None)
    }
}

/// One level of parentheses, brackets or `CASE`. Heights are upper bounds: they count operators, not their tree.
#[derive(Default)]
struct Level {
    operators: usize,
    /// Greatest height of a nested level since the last `AND`, `OR` or separator.
    child: usize,
    /// `BETWEEN`s whose `AND` is still to come.
    between: usize,
    logical: usize,
    /// Greatest height of an operand of `AND` or `OR` since the last separator.
    operand: usize,
    /// Greatest height between separators.
    highest: usize,
}

impl Level {
    fn logical(&mut self) {
        self.operand = self.operand.max(self.operators + self.child);
        (self.operators, self.child) = (0, 0);
        self.logical += 1;
    }

    fn height(&self) -> usize {
        self.highest
            .max(self.operand.max(self.operators + self.child) + self.logical)
    }

    fn separate(&mut self) {
        *self = Self {
            highest: self.height(),
            ..Self::default()
        };
    }
}

enum Shape {
    Open,
    Close,
    Separator,
    And,
    Or,
    Between,
    Operator,
    Operand,
}

fn shape(token: &Token) -> Shape {
    use Keyword as K;
    match token {
        Token::LParen | Token::LBracket | Token::LBrace => Shape::Open,
        Token::RParen | Token::RBracket | Token::RBrace => Shape::Close,
        Token::Comma | Token::SemiColon => Shape::Separator,
        Token::Word(_) => match keyword_of(token) {
            Some(K::CASE) => Shape::Open,
            Some(K::END) => Shape::Close,
            Some(K::WHEN | K::THEN | K::ELSE | K::SELECT | K::FROM | K::WHERE) => Shape::Separator,
            Some(K::AND) => Shape::And,
            Some(K::OR) => Shape::Or,
            Some(K::BETWEEN) => Shape::Between,
            Some(
                K::NOT
                | K::IS
                | K::NOTNULL
                | K::IN
                | K::LIKE
                | K::ILIKE
                | K::RLIKE
                | K::REGEXP
                | K::SIMILAR
                | K::MATCH
                | K::AT
                | K::COLLATE
                | K::DIV
                | K::XOR
                | K::OVERLAPS
                | K::OPERATOR
                | K::MEMBER
                | K::PRIOR
                | K::INTERVAL
                | K::UNION
                | K::EXCEPT
                | K::INTERSECT
                | K::MINUS
                | K::JOIN,
            ) => Shape::Operator,
            _ => Shape::Operand,
        },
        Token::EOF
        | Token::Period
        | Token::Number(..)
        | Token::Char(_)
        | Token::Placeholder(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_) => Shape::Operand,
        // Every other token is taken for an operator: an error on the safe side.
        _ => Shape::Operator,
    }
}

/// Where the text first shows an expression that may be deeper than `limit`.
fn too_deep(tokens: &[TokenWithSpan], limit: usize) -> Option<Location> {
    let mut level = Level::default();
    let mut outer = Vec::new();
    for token in tokens {
        match shape(&token.token) {
            Shape::Open => {
                // A bracket after an operand is an operator as well, so that `a[1][1][1]` counts.
                level.operators += usize::from(token.token == Token::LBracket);
                outer.push(std::mem::take(&mut level));
            }
            Shape::Close => {
                let height = level.height() + 1;
                level = outer.pop().unwrap_or_default();
                level.child = level.child.max(height);
            }
            Shape::Separator => level.separate(),
            Shape::And if level.between > 0 => {
                level.between -= 1;
                level.operators += 1;
            }
            Shape::And | Shape::Or => level.logical(),
            Shape::Between => {
                level.between += 1;
                level.operators += 1;
            }
            Shape::Operator => level.operators += 1,
            Shape::Operand => {}
        }
        if level.height() + outer.len() > limit {
            return Some(token.span.start);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sql: &str) -> Option<SqlError> {
        Text::new(sql).and_then(|text| text.parse()).err()
    }

    #[test]
    fn depth_is_bounded_before_parsing() {
        let deep = [
            format!("SELECT {}1{} AS x FROM source", "(".repeat(30_000), ")".repeat(30_000)),
            format!("SELECT {} FROM source", "(".repeat(60_000)),
            format!("SELECT 1{} AS x FROM source", "+1".repeat(30_000)),
            format!("SELECT {}1 AS x FROM source", "- ".repeat(30_000)),
            format!("SELECT {}true AS x FROM source", "NOT ".repeat(15_000)),
            format!("SELECT true{} AS x FROM source", " OR b".repeat(10_000)),
            format!("SELECT a{} AS x FROM source", "::int".repeat(10_000)),
            format!("SELECT a{} AS x FROM source", "[1]".repeat(10_000)),
            format!("SELECT a{} AS x FROM source", " IS NULL".repeat(7_000)),
            format!(
                "SELECT {}1{} AS x FROM source",
                "CASE WHEN a THEN ".repeat(3_000),
                " END".repeat(3_000)
            ),
            format!(
                "SELECT {}a{} AS x FROM source",
                "(".repeat(45),
                "+1+1+1+1+1)".repeat(45)
            ),
            format!("SELECT 1 AS x FROM source WHERE {}", "a BETWEEN 1 AND ".repeat(3_000)),
        ];
        for sql in &deep {
            let error = refusal(sql).unwrap_or_else(|| panic!("accepted: {}", &sql[..60]));
            assert!(
                error.message.contains("nests deeper than"),
                "{}: {}",
                &sql[..60],
                error.message
            );
        }
        let error = refusal(&format!("SELECT {} AS x FROM source", "1,".repeat(40_000))).map(|error| error.message);
        assert!(error.is_some_and(|error| error.contains("80024 bytes")), "length");
    }

    #[test]
    fn wide_is_not_deep() {
        let wide = [
            format!("SELECT {} 1 AS z FROM source", "a + b * 2 - (c), ".repeat(2_000)),
            format!("SELECT 1 AS x FROM source WHERE a IN ({} 0)", "1, ".repeat(10_000)),
            format!("SELECT 1 AS x FROM source WHERE a = 0{}", " AND a = b + 1".repeat(150)),
            format!(
                "SELECT CASE {} END AS x FROM source",
                "WHEN a = 1 THEN b + 2 ".repeat(1_000)
            ),
        ];
        for sql in &wide {
            assert_eq!(refusal(sql), None, "{}", &sql[..60]);
        }
    }

    #[test]
    fn offsets_count_bytes_of_lines_and_characters() {
        let sql = "SELECT 'ä',\n  'ö' AS x, nope nope nope\nFROM source";
        let error = refusal(sql).unwrap();
        assert_eq!(error.at, sql.rfind("nope"), "{error:?}");
        assert!(!error.message.contains("Line"), "{error:?}");
        assert_eq!(refusal("SELECT a FROM  ").unwrap().at, Some("SELECT a FROM".len()));
        assert_eq!(refusal("SELECT a FROM source; ; SELECT 1").unwrap().at, Some(24));
        assert_eq!(refusal("SELECT a FROM source; "), None);
        let error = refusal("SELECT 'a FROM source").unwrap();
        assert_eq!(error.at, Some(7), "{error:?}");
    }

    #[test]
    fn items_and_predicate_are_found() {
        let sql = "SELECT ALL a, f(b, c) AS d -- , no\n, (e) FROM source WHERE (x) = 1";
        let text = Text::new(sql).unwrap();
        let starts: Vec<_> = ["a,", "f(", "(e)"].iter().map(|part| sql.find(part)).collect();
        assert_eq!(text.items(), starts);
        assert_eq!(text.predicate(), sql.find("(x)"));
    }
}

//! Payments and outcomes as JSON, written without allocation.

use super::world::{CATEGORIES, COUNTRIES, Fault, Form, MERCHANTS, Payment};

/// Appends the record of a payment as it arrives: with the fault of its form, and in cents where its feed errs.
pub(super) fn payment(id: &[u8], payment: &Payment, out: &mut Vec<u8>) {
    let start = out.len();
    let fault = match payment.form {
        Form::Malformed(fault) => Some(fault),
        Form::Ordinary | Form::Test => None,
    };
    if fault == Some(Fault::Empty) {
        return;
    }
    let mut json = Object::new(out);
    json.text("payment_id", id);
    json.number("at", payment.at_ms);
    json.merchant(payment.category as u64 * MERCHANTS + payment.merchant);
    json.text("category", CATEGORIES[payment.category].as_bytes());
    json.text("country", COUNTRIES[payment.country].as_bytes());
    if let Some(country) = payment.card_country {
        json.text("card_country", COUNTRIES[country].as_bytes());
    }
    json.amount(payment, fault == Some(Fault::TextForNumber));
    json.number("hour", payment.hour as i64);
    if fault == Some(Fault::FractionForInteger) {
        json.out.extend_from_slice(b".5");
    }
    json.maybe("card_age_days", payment.card_age_days);
    json.maybe("payments_last_hour", payment.last_hour);
    json.bool("is_online", payment.online);
    json.bool("is_test", payment.form == Form::Test);
    out.push(b'}');
    if fault == Some(Fault::Truncated) {
        let length = out.len() - start;
        out.truncate(start + 1 + ((length - 2) as f64 * payment.cut) as usize);
    }
}

/// Appends the record of an outcome.
pub(super) fn outcome(id: &[u8], known_at_ms: i64, fraud: bool, out: &mut Vec<u8>) {
    let mut json = Object::new(out);
    json.text("payment_id", id);
    json.number("known_at", known_at_ms);
    json.bool("fraud", fraud);
    out.push(b'}');
}

/// Appends the id of payment `number` of a run that began at `start_ms`.
pub(super) fn id(start_ms: i64, number: u64, out: &mut Vec<u8>) {
    out.push(b'p');
    out.extend_from_slice(itoa::Buffer::new().format(start_ms).as_bytes());
    out.push(b'-');
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The number of the payment that [`id`] gave this id to, if it did.
pub(super) fn number(start_ms: i64, id: &str) -> Option<u64> {
    let (start, number) = id.strip_prefix('p')?.rsplit_once('-')?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (start.parse() == Ok(start_ms) && digits)
        .then(|| number.parse().ok())
        .flatten()
}

/// An object under construction. Keys and texts need no escapes: all are this module's own.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    separator: u8,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, separator: b'{' }
    }

    fn key(&mut self, key: &str) {
        self.out.push(self.separator);
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.separator = b',';
    }

    fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(value);
        self.out.push(b'"');
    }

    fn number(&mut self, key: &str, value: i64) {
        self.key(key);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn maybe(&mut self, key: &str, value: Option<u64>) {
        self.key(key);
        match value {
            Some(value) => self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// `m` and three digits.
    fn merchant(&mut self, merchant: u64) {
        let digit = |place: u64| b'0' + (merchant / place % 10) as u8;
        self.text("merchant", &[b'm', digit(100), digit(10), digit(1)]);
    }

    /// Euros with two digits after the point, unless the feed takes cents for euros.
    fn amount(&mut self, payment: &Payment, as_text: bool) {
        let (euros, cents) = (payment.amount_cents / 100, payment.amount_cents % 100);
        self.key("amount");
        let quote: &[u8] = if as_text { b"\"" } else { b"" };
        self.out.extend_from_slice(quote);
        if payment.in_cents {
            self.out
                .extend_from_slice(itoa::Buffer::new().format(payment.amount_cents).as_bytes());
        } else {
            self.out.extend_from_slice(itoa::Buffer::new().format(euros).as_bytes());
            self.out
                .extend_from_slice(&[b'.', b'0' + (cents / 10) as u8, b'0' + (cents % 10) as u8]);
        }
        self.out.extend_from_slice(quote);
    }
}

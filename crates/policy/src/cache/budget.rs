//! How many evaluations one client may cause: what keeps a client that asks for another path each time from taking a worker
//! from everybody else.

use std::collections::HashMap;
use std::time::Instant;

use regorus::Value;

use crate::input::subject::Subject;

/// Buckets of tokens, one for each client that caused an evaluation lately.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: u32,
    buckets: HashMap<Box<str>, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl Budget {
    /// Allows each client this many evaluations per second, as many at once after a pause.
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, buckets: HashMap::new() }
    }

    /// Takes the price of one evaluation. `false` if the client has spent what it may.
    pub(super) fn spend(&mut self, subject: &Subject, now: Instant) -> bool {
        let client = payer(subject);
        let per_second = f64::from(self.per_second);
        if !self.buckets.contains_key(client) {
            if self.buckets.len() >= CLIENTS_MAX {
                self.make_room(now);
            }
            self.buckets.insert(client.into(), Bucket { tokens: per_second, filled_at: now });
        }
        let Some(bucket) = self.buckets.get_mut(client) else { return false };
        let elapsed = now.saturating_duration_since(bucket.filled_at).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * per_second).min(per_second);
        bucket.filled_at = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }

    /// Forgets clients whose buckets are full again, which loses nothing. With too many others all are forgotten: so many
    /// clients at once are no single client's doing.
    #[cold]
    fn make_room(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.filled_at).as_secs() < 1);
        if self.buckets.len() > CLIENTS_MAX / 2 {
            self.buckets.clear();
        }
    }
}

/// Who is charged: the holder of the certificate, and without one the address.
fn payer(subject: &Subject) -> &str {
    field(&subject.client, "fingerprint_sha256")
        .filter(|fingerprint| !fingerprint.is_empty())
        .or_else(|| field(&subject.connection, "remote_addr"))
        .unwrap_or("")
}

fn field<'v>(document: &'v Value, name: &str) -> Option<&'v str> {
    match document.as_object().ok()?.get(&Value::from(name))? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Clients that are told apart at once; with the table they take less than 1 MiB.
const CLIENTS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::input::sample;
    use crate::input::subject::Claims;

    fn client(fingerprint: &str) -> Subject {
        let claims = Claims { fingerprint_sha256: fingerprint, ..sample::claims() };
        Subject::from_claims(&claims, &sample::connection())
    }

    fn anonymous(address: &str) -> Subject {
        let remote = std::net::SocketAddr::new(address.parse().unwrap(), 1);
        let connection = crate::ConnectionView { remote, ..sample::connection() };
        Subject::from_claims(&Claims::default(), &connection)
    }

    #[test]
    fn a_client_may_spend_its_second_and_then_as_time_passes() {
        let (mut budget, start) = (Budget::new(10), Instant::now());
        let greedy = client("aa");
        let spent = |budget: &mut Budget, now| (0..100).filter(|_| budget.spend(&greedy, now)).count();
        assert_eq!(spent(&mut budget, start), 10);
        assert_eq!(spent(&mut budget, start + Duration::from_millis(500)), 5);
        assert_eq!(
            spent(&mut budget, start + Duration::from_secs(3600)),
            10,
            "no more than a second's worth"
        );
        assert!(budget.spend(&client("bb"), start), "another client is not affected");
    }

    #[test]
    fn clients_without_certificate_are_told_apart_by_address() {
        let (mut budget, now) = (Budget::new(1), Instant::now());
        assert!(budget.spend(&anonymous("192.0.2.1"), now));
        assert!(!budget.spend(&anonymous("192.0.2.1"), now));
        assert!(budget.spend(&anonymous("192.0.2.2"), now));
    }

    #[test]
    fn the_table_is_bounded_and_a_pause_costs_nobody_anything() {
        let (mut budget, now) = (Budget::new(1), Instant::now());
        for number in 0..3 * CLIENTS_MAX {
            budget.spend(&client(&number.to_string()), now + Duration::from_micros(number as u64));
            assert!(budget.buckets.len() <= CLIENTS_MAX);
        }
        let mut budget = Budget::new(1);
        for number in 0..CLIENTS_MAX {
            budget.spend(&client(&number.to_string()), now);
        }
        let later = now + Duration::from_millis(999);
        let spender = client("0");
        assert!(!budget.spend(&spender, later), "at the limit, all are remembered");
        let later = now + Duration::from_secs(1);
        budget.spend(&client("new"), later);
        assert_eq!(budget.buckets.len(), 2, "the newcomer, and who spent lately");
    }
}

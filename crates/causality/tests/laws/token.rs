//! A token opens for the cluster and key that it was given for, as it was given, and for nothing else.

use annulus_causality::{Actor, CausalContext, MAX_TOKEN_BYTES, TokenError, TokenKey};
use proptest::prelude::*;

use crate::{context, dot};

const SCOPE: &[u8] = b"bucket\0key";

fn key() -> TokenKey {
    TokenKey::new([7; 32])
}

fn seen() -> CausalContext {
    context([dot(1, 1), dot(1, 4), dot(9, 2)])
}

proptest! {
    #[test]
    fn a_token_with_any_character_changed_is_refused(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_-]") {
        let token = key().seal(SCOPE, &seen());
        let at = at.index(token.len());
        let mut altered = token.clone();
        altered.replace_range(at..=at, &with);
        prop_assume!(altered != token);
        prop_assert!(matches!(key().open(SCOPE, &altered), Err(TokenError::Forged | TokenError::Malformed)));
    }

    #[test]
    fn any_text_is_refused(text in ".{0,80}") {
        prop_assert!(key().open(SCOPE, &text).is_err());
    }
}

#[test]
fn a_token_opens_as_what_was_sealed() {
    for sealed in [CausalContext::new(), seen()] {
        let token = key().seal(SCOPE, &sealed);
        assert!(
            token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'),
            "{token}"
        );
        assert_eq!(key().open(SCOPE, &token), Ok(sealed));
    }
}

#[test]
fn a_token_of_another_key_or_cluster_is_forged() {
    let token = key().seal(SCOPE, &seen());
    assert_eq!(key().open(b"bucket\0other", &token), Err(TokenError::Forged));
    assert_eq!(TokenKey::new([8; 32]).open(SCOPE, &token), Err(TokenError::Forged));
}

#[test]
fn what_is_no_token_is_malformed() {
    let token = key().seal(SCOPE, &seen());
    let padded = format!("{token}=");
    let other_format = format!("B{}", &token[1..]);
    for text in ["", "A", "not a token", "AAAA", &padded, &other_format] {
        assert_eq!(key().open(SCOPE, text), Err(TokenError::Malformed), "{text}");
    }
}

#[test]
fn a_token_that_is_too_long_is_refused_before_it_is_decoded() {
    assert_eq!(
        key().open(SCOPE, &"!".repeat(MAX_TOKEN_BYTES + 1)),
        Err(TokenError::TooLong)
    );
    assert_eq!(
        key().open(SCOPE, &"!".repeat(MAX_TOKEN_BYTES)),
        Err(TokenError::Malformed)
    );
}

#[test]
fn a_token_is_short_however_many_incarnations_are_finished() {
    let mut context = CausalContext::new();
    for number in 0..5 {
        let node = u64::MAX - number * 1_000_003;
        let incarnation = (4_000 << 20) + number * 77_777;
        context.close_below(node, incarnation);
        context.insert_range(Actor { node, incarnation }, 1..=1_000_000);
    }
    let token = key().seal(SCOPE, &context);
    assert!(token.len() < 200, "{} characters", token.len());
    assert_eq!(key().open(SCOPE, &token), Ok(context));
}

#[test]
fn the_secret_is_not_printed() {
    assert_eq!(format!("{:?}", key()), "TokenKey(secret)");
}

/// Tokens outlive the process that gave them, and every node must open those of every other.
#[test]
fn the_layout_of_a_token_is_fixed() {
    assert_eq!(key().seal(SCOPE, &seen()), "AQIBAQIBAQAIAQIAAABco8BSL1cwSJCUfw2enHUK");
}

//! Worked examples of contract D.7, refused configurations, and the laws of mappings.

use proptest::prelude::*;
use uuid::Uuid;

use super::super::id::BackendId;
use super::*;

const V: BackendId = BackendId(Uuid::from_u128(1));
const V1: BackendId = BackendId(Uuid::from_u128(2));
const A: BackendId = BackendId(Uuid::from_u128(3));
const A2: BackendId = BackendId(Uuid::from_u128(4));
const X: BackendId = BackendId(Uuid::from_u128(5));
const Z: BackendId = BackendId(Uuid::from_u128(6));
const G: BackendId = BackendId(Uuid::from_u128(7));

fn path(text: &str) -> SecretPath {
    text.parse().unwrap()
}

fn mapping(kind: BackendKind, pattern: &str, template: &str) -> Mapping {
    Mapping::compile(kind, "--", pattern, template).unwrap()
}

/// The tenant of contract D.7; Z holds Z2 too.
fn backends() -> Vec<(BackendId, Vec<Mapping>)> {
    let all = |kind, pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(pattern, template)| ((*pattern).into(), (*template).into())).collect();
        compile_all(kind, "--", &pairs).unwrap()
    };
    vec![
        (V, all(BackendKind::HashicorpVault, &[("external/hashicorp/**", "secret/data/**")])),
        (V1, all(BackendKind::HashicorpVault, &[("legacy/*/db", "kv1/*/db")])),
        (A, all(BackendKind::AwsSecretsManager, &[("external/aws/**", "prod/**")])),
        (A2, all(BackendKind::AwsSecretsManager, &[("external/aws/live/*", "live-*")])),
        (X, all(BackendKind::AwsSecretsManager, &[("external/aws/root-token", "break-glass/root")])),
        (
            Z,
            all(
                BackendKind::AzureKeyVault,
                &[("external/azure/**", "**"), ("external/azure-pay/**", "pay--**")],
            ),
        ),
        (G, all(BackendKind::GoogleSecretManager, &[("external/gcp/**", "**")])),
    ]
}

fn routes() -> Routes {
    Routes::new(backends()).unwrap()
}

#[test]
fn worked_examples_come_out_as_printed() {
    let routes = routes();
    for (row, text, expected) in [
        (1, "external/hashicorp/app/db/password", Some((V, Ok("secret/data/app/db/password")))),
        (2, "external/hashicorp", Some((V, Err(NoName::Nothing)))),
        (3, "external/hashicorps/x", None),
        (4, "external/aws", Some((A, Ok("prod")))),
        (5, "external/aws/billing/stripe", Some((A, Ok("prod/billing/stripe")))),
        (6, "external/aws/live/api", Some((A2, Ok("live-api")))),
        (7, "external/aws/live/api/v2", Some((A, Ok("prod/live/api/v2")))),
        (8, "external/aws/root-token", Some((X, Ok("break-glass/root")))),
        (9, "legacy/shop/db", Some((V1, Ok("kv1/shop/db")))),
        (10, "legacy/shop/eu/db", None),
        (11, "external/azure/prod/db/password", Some((Z, Ok("prod--db--password")))),
        (12, "external/azure/prod/db_password", Some((Z, Err(NoName::Character)))),
        (13, "external/azure/prod/DB", Some((Z, Err(NoName::Case)))),
        (14, "external/azure/a-/b", Some((Z, Err(NoName::OtherWay)))),
        (15, "external/azure/a/-b", Some((Z, Ok("a---b")))),
        (16, "external/azure/a--b", Some((Z, Err(NoName::OtherWay)))),
        (17, "external/azure-pay/card/key", Some((Z, Ok("pay--card--key")))),
        (17, "external/azure/pay/card/key", Some((Z, Ok("pay--card--key")))),
        (18, "external/gcp/Team_A/DB_PASSWORD", Some((G, Ok("Team_A--DB_PASSWORD")))),
        (19, "external/gcp/a.b", Some((G, Err(NoName::Character)))),
    ] {
        let route = routes.route(&path(text)).map(|route| (route.backend, route.name));
        let expected = expected.map(|(backend, name)| (backend, name.map(str::to_owned)));
        assert_eq!(route, expected, "row {row}: {text}");
    }
    for (row, text) in [(22, "external/hashicorp/a%2fb"), (23, "external/hashicorp/../sys/mounts")] {
        assert!(text.parse::<SecretPath>().is_err(), "row {row}: {text}");
    }
}

#[test]
fn listed_names_come_back_as_printed() {
    let routes = routes();
    let pick = |backend, pattern: &str| {
        let all = routes.touching("");
        all.into_iter().find(|(id, mapping)| *id == backend && mapping.pattern() == pattern).unwrap().1
    };
    let (azure, aws, vault) =
        (pick(Z, "external/azure/**"), pick(A, "external/aws/**"), pick(V, "external/hashicorp/**"));
    for (row, backend, mapping, name, expected) in [
        (6, A, aws, "prod/live/api", Err(NoPath::OtherMapping)),
        (5, A, aws, "prod/billing/stripe", Ok("external/aws/billing/stripe")),
        (5, A, aws, "production/billing", Err(NoPath::OtherName)),
        (20, Z, azure, "prod--db--password", Ok("external/azure/prod/db/password")),
        (20, Z, azure, "plain", Ok("external/azure/plain")),
        (20, Z, azure, "X--Y", Ok("external/azure/x/y")),
        (20, Z, azure, "a----b", Err(NoPath::Path)),
        (21, V, vault, "secret/data/app/cm", Ok("external/hashicorp/app/cm")),
        (2, V, vault, "secret/data", Err(NoPath::OtherWay)),
        (2, V, vault, "secret/data/a//b", Err(NoPath::Path)),
    ] {
        assert_eq!(routes.path_of(backend, mapping, name), expected.map(path), "row {row}: {name}");
    }
}

#[test]
fn name_that_two_paths_reach_is_warned_of_with_an_example() {
    let shadows = routes().shadows();

    let [shadow] = shadows.as_slice() else { panic!("{shadows:?}") };
    let mut patterns = [shadow.pattern.as_str(), shadow.other_pattern.as_str()];
    patterns.sort_unstable();
    assert_eq!(patterns, ["external/azure-pay/**", "external/azure/**"]);
    assert_eq!((shadow.backend_id, shadow.name.as_str()), (Z, "pay--x"));
    let mut paths = [shadow.path.as_str(), shadow.other_path.as_str()];
    paths.sort_unstable();
    assert_eq!(paths, ["external/azure-pay/x", "external/azure/pay/x"]);
}

#[test]
fn name_that_one_path_reaches_by_two_mappings_is_not_warned_of() {
    let aws = |pattern, template| mapping(BackendKind::AwsSecretsManager, pattern, template);
    let routes = Routes::new([(A, vec![aws("a/**", "prod/**"), aws("a/live/*", "prod/live/*")])]).unwrap();

    assert_eq!(routes.shadows(), []);
}

#[test]
fn refused_configurations_say_which_answer_they_get() {
    let aws = BackendKind::AwsSecretsManager;
    let (vault, azure, google) =
        (BackendKind::HashicorpVault, BackendKind::AzureKeyVault, BackendKind::GoogleSecretManager);
    for (kind, pattern, template) in [
        (aws, "external/**", "prod"),
        (aws, "external/x", "prod/*"),
        (aws, "a/*", "prod/?"),
        (aws, "a/*/**", "prod/**"),
        (aws, "a/?/*", "*/?"),
        (aws, "a/x", ""),
        (aws, "a/x", "spa ce"),
        (aws, "a/x", "ä"),
        (azure, "a/x", "under_score"),
        (google, "a/x", "dot.dot"),
        (vault, "a/**", "**"),
        (vault, "a/*/**", "*/**"),
        (vault, "a/x", "secret"),
        (vault, "a/**", "sys/**"),
        (azure, "a/x", &"x".repeat(128)),
        (google, "a/**", &format!("{}/**", "x".repeat(254))),
        (aws, "a/x", &"x".repeat(513)),
        (vault, "a/x", &"x/".repeat(600)),
    ] {
        let refusal = Mapping::compile(kind, "--", pattern, template).unwrap_err();
        assert!(matches!(refusal, InvalidMapping::Config(_)), "{pattern} -> {template}: {refusal}");
    }
    for (pattern, template, side, refusal) in [
        ("**", "prod/**", Side::Pattern, InvalidGlob::First),
        ("*/x", "*/x", Side::Pattern, InvalidGlob::First),
        ("a/**/b", "x/**/b", Side::Pattern, InvalidGlob::NotLast),
        ("a/**/**", "x/**/**", Side::Pattern, InvalidGlob::NotLast),
        ("a//b", "x", Side::Pattern, InvalidGlob::Segment),
        ("a/**", "x/**/b", Side::Template, InvalidGlob::NotLast),
        ("a/**", "x**", Side::Template, InvalidGlob::Glued),
        ("a/**", "x/***", Side::Template, InvalidGlob::Glued),
        ("a/**", "/x/**", Side::Template, InvalidGlob::Segment),
        ("a/x", "x/", Side::Template, InvalidGlob::Segment),
        ("a/x", "x/../y", Side::Template, InvalidGlob::Segment),
        ("a/x", "x/[y]", Side::Template, InvalidGlob::Character),
        ("a/x", "x\ny", Side::Template, InvalidGlob::Character),
    ] {
        let refused = Mapping::compile(aws, "--", pattern, template);
        assert_eq!(refused, Err(InvalidMapping::Glob(side, refusal)), "{pattern} -> {template}");
    }
    let glued = Mapping::compile(azure, "--", "a/**", "pay-**");
    assert_eq!(glued, Err(InvalidMapping::Glob(Side::Template, InvalidGlob::Glued)));
}

#[test]
fn two_patterns_of_a_backend_with_one_template_are_refused() {
    let refused = |kind, one: &str, two: &str| {
        let pairs = [("a/**".to_owned(), one.to_owned()), ("b/**".to_owned(), two.to_owned())];
        compile_all(kind, "--", &pairs.into()).is_err()
    };

    assert!(refused(BackendKind::AwsSecretsManager, "prod/**", "prod/**"));
    assert!(!refused(BackendKind::AwsSecretsManager, "prod/**", "Prod/**"));
    assert!(refused(BackendKind::AzureKeyVault, "pay/**", "PAY--**"));
    assert!(compile_all(BackendKind::AwsSecretsManager, "--", &BTreeMap::new()).is_err());
    let many = (0..257).map(|number| (format!("a/{number}"), format!("p{number}"))).collect();
    assert!(compile_all(BackendKind::AwsSecretsManager, "--", &many).is_err());
}

#[test]
fn patterns_that_no_rule_tells_apart_are_a_conflict_that_names_both() {
    let aws = |pattern, template| mapping(BackendKind::AwsSecretsManager, pattern, template);
    let mut all = backends();
    all.push((BackendId(Uuid::from_u128(9)), vec![aws("external/aws/**", "other/**")]));
    let conflict = Routes::new(all).unwrap_err();
    assert_eq!((&*conflict.pattern, conflict.backend), ("external/aws/**", A));
    assert_eq!((&*conflict.other_pattern, conflict.other_backend.0), ("external/aws/**", Uuid::from_u128(9)));

    for (one, two, conflicts) in [
        ("a/x*", "a/*x", true),
        ("a/x*", "a/y*", false),
        ("a/*x", "a/*y", false),
        ("a/*/b/c", "a/b/*/c", false),
        ("a/*/b/*", "a/*/*/b", true),
        ("a/*/b/*", "a/*/*/c", true),
        ("a/*/b/**", "a/*/c/**", false),
        ("a/?x", "a/x?", true),
        ("a/?x", "a/y?", true),
        ("a/?x", "a/?y", false),
        ("a/*", "b/*", false),
        ("a/x*?", "a/x?*", false),
    ] {
        let built = Routes::new([(A, vec![aws(one, one)]), (X, vec![aws(two, two)])]);
        assert_eq!(built.is_err(), conflicts, "{one} and {two}");
    }
}

#[test]
fn most_specific_pattern_wins_by_the_first_rule_that_tells() {
    let aws = |pattern: &str| mapping(BackendKind::AwsSecretsManager, pattern, &format!("p-{pattern}"));
    for (winner, loser, text, rule) in [
        ("a/b/c", "a/b/*", "a/b/c", Rule::Exact),
        ("a/b/*", "a/*/c", "a/b/c", Rule::LiteralSegmentsFirst),
        ("a/*/c", "a/*/*", "a/b/c", Rule::LiteralSegments),
        ("a/*/c", "a/b*/*", "a/bb/c", Rule::LiteralSegments),
        ("a/bc*", "a/b*", "a/bcd", Rule::LiteralCharacters),
        ("a/b?", "a/b*", "a/bc", Rule::Wildcards),
        ("a/?", "a/*", "a/b", Rule::Wildcards),
        ("a/*", "a/**", "a/b", Rule::Wildcards),
        ("a/*", "a/*/**", "a/b", Rule::Wildcards),
        ("a/b*?", "a/b*", "a/bcd", Rule::Wildcards),
    ] {
        for order in [[winner, loser], [loser, winner]] {
            let routes = Routes::new(order.map(|pattern| (A, vec![aws(pattern)]))).unwrap();

            assert_eq!(routes.route(&path(text)).unwrap().mapping.pattern(), winner, "{winner} {loser}");
            let explained = routes.explain(&path(text));
            let told: Vec<_> =
                explained.mappings.iter().map(|one| (&*one.pattern, one.wins, one.lost_by)).collect();
            assert_eq!(told, [(winner, true, None), (loser, false, Some(rule))]);
        }
    }
}

#[test]
fn explanation_says_why_there_is_no_name() {
    let explained = routes().explain(&path("external/azure/prod/DB"));
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!(json["federated"], true);
    assert_eq!(json["mappings"][0]["name"], serde_json::Value::Null);
    assert_eq!(json["mappings"][0]["no_name"], NoName::Case.to_string());

    let local = routes().explain(&path("app/db"));
    assert!(!local.federated && local.mappings.is_empty());
    assert!(Routes::empty().route(&path("app/db")).is_none());
}

#[test]
fn list_asks_only_the_mappings_that_could_answer() {
    let routes = routes();
    let touching = |prefix: &str| {
        let mut ids: Vec<_> = routes.touching(prefix).into_iter().map(|(backend, _)| backend).collect();
        ids.sort_unstable();
        ids
    };

    assert_eq!(touching("external/aws/"), [A, A2, X]);
    assert_eq!(touching("external/aws/live/"), [A, A2]);
    assert_eq!(touching("external/az"), [Z, Z]);
    assert_eq!(touching("legacy/shop"), [V1]);
    assert_eq!(touching("app"), []);
}

#[test]
fn listing_sees_every_name_of_its_mapping() {
    let (vault, aws, azure, google) = (
        BackendKind::HashicorpVault,
        BackendKind::AwsSecretsManager,
        BackendKind::AzureKeyVault,
        BackendKind::GoogleSecretManager,
    );
    for (kind, pattern, template, prefix, unlisted) in [
        (vault, "a/**", "secret/data/**", "secret/data", None),
        (vault, "a/**", "secret/data/team/**", "secret/data/team", Some("secret/data/team")),
        (vault, "a/*/db", "kv1/*/db", "kv1", None),
        (vault, "a/*", "secret/data/app-*", "secret/data", None),
        (vault, "a/x", "secret/data/x", "secret/data/x", Some("secret/data/x")),
        (aws, "a/**", "prod/**", "prod", None),
        (aws, "a/*", "prod/live-*", "prod/live-", None),
        (aws, "a/*", "*-live", "", None),
        (aws, "a/x", "prod/x", "prod/x", Some("prod/x")),
        (azure, "a/**", "Pay--**", "pay", None),
        (azure, "a/**", "pay/**", "pay", None),
        (google, "a/**", "**", "", None),
        (google, "a/x", "p/x", "p--x", Some("p--x")),
    ] {
        let mapping = mapping(kind, pattern, template);
        assert_eq!((mapping.listing_prefix(), mapping.unlisted_name()), (prefix, unlisted), "{template}");
        assert_eq!(mapping.path_prefix(), if mapping.is_exact() { "a/x" } else { "a" });
    }
}

#[test]
fn listing_is_as_narrow_as_the_asked_prefix_allows() {
    let (vault, aws, google) =
        (BackendKind::HashicorpVault, BackendKind::AwsSecretsManager, BackendKind::GoogleSecretManager);
    for (kind, pattern, template, prefix, expected) in [
        (vault, "a/**", "secret/data/**", "", "secret/data"),
        (vault, "a/**", "secret/data/**", "a", "secret/data"),
        (vault, "a/**", "secret/data/**", "a/", "secret/data"),
        (vault, "a/**", "secret/data/**", "a/x", "secret/data"),
        (vault, "a/**", "secret/data/**", "a/x/", "secret/data/x"),
        (vault, "a/**", "secret/data/**", "a/x/y/z", "secret/data/x/y"),
        (vault, "a/*/x/**", "kv/*/y/**", "a/t", "kv"),
        (vault, "a/*/x/**", "kv/*/y/**", "a/t/", "kv/t/y"),
        (vault, "a/*/x/**", "kv/*/y/**", "a/t/x/u/", "kv/t/y/u"),
        (vault, "a/*/x/**", "kv/*/y/**", "b/", "kv"),
        (vault, "a/*", "kv/app-*", "a/x", "kv"),
        (aws, "a/**", "prod/**", "a", "prod"),
        (aws, "a/**", "prod/**", "a/", "prod/"),
        (aws, "a/**", "prod/**", "a/x/y", "prod/x/y"),
        (aws, "a/*/*", "live-*/db-*", "a/t/", "live-t/db-"),
        (google, "a/**", "pay/**", "a", "pay"),
        (google, "a/**", "pay/**", "a/x/y", "pay--x--y"),
        (google, "a/*/**", "p-*--**", "a/x/y/", "p-x--y--"),
    ] {
        let mapping = mapping(kind, pattern, template);
        assert_eq!(mapping.listing_prefix_below(prefix), expected, "{template} below {prefix}");
    }
}

#[test]
fn folder_of_a_store_is_one_of_ours() {
    let vault = BackendKind::HashicorpVault;
    for (pattern, template, folder, expected) in [
        ("external/hashicorp/**", "secret/data/**", "secret/data/app", Some("external/hashicorp/app/")),
        ("external/hashicorp/**", "secret/data/**", "secret/data", Some("external/hashicorp/")),
        ("external/hashicorp/**", "secret/data/**", "other/data", None),
        ("legacy/*/db", "kv1/*/db", "kv1", Some("legacy/")),
        ("legacy/*/db", "kv1/*/db", "kv1/shop", Some("legacy/shop/")),
        ("legacy/*/db", "kv1/*/db", "kv1/shop/eu", None),
        ("legacy/*/db", "kv1/*/db", "kv1/shop/db", None),
        ("a/*/b", "kv/*/x/y", "kv/t/x", Some("a/t/")),
        ("a/*/x/**", "kv/*/**", "kv/t", Some("a/t/x/")),
        ("a/**", "kv/**", "kv/b c", None),
    ] {
        let ours = mapping(vault, pattern, template).folder_of(folder);
        assert_eq!(ours.as_deref(), expected, "{folder} of {template}");
    }
    assert_eq!(mapping(BackendKind::GoogleSecretManager, "a/**", "**").folder_of("x"), None);
}

#[test]
fn wildcard_beside_text_cannot_leave_the_mount() {
    let vault = mapping(BackendKind::HashicorpVault, "a/x*/*", "secret/data/*/*");

    assert_eq!(vault.forward(&path("a/x../b")), Err(NoName::Segment));
    assert_eq!(vault.forward(&path("a/x./b")), Err(NoName::Segment));
    assert_eq!(vault.forward(&path("a/x/b")), Err(NoName::Segment));
    assert_eq!(vault.forward(&path("a/xy/b")).as_deref(), Ok("secret/data/y/b"));
    let dotted = mapping(BackendKind::HashicorpVault, "a/*", "secret/data/.*");
    assert_eq!(dotted.forward(&path("a/.b")).as_deref(), Ok("secret/data/..b"));
    let single = mapping(BackendKind::HashicorpVault, "a/x*", "secret/data/.*");
    assert_eq!(single.forward(&path("a/x.")), Err(NoName::Segment));
}

#[test]
fn names_of_any_text_are_taken_or_refused_without_harm() {
    let vault = mapping(BackendKind::HashicorpVault, "a/?/*", "secret/é?/*");

    assert_eq!(vault.forward(&path("a/x/y")).as_deref(), Ok("secret/éx/y"));
    assert_eq!(vault.back("secret/éx/y"), Ok(path("a/x/y")));
    assert_eq!(vault.back("secret/éé/y"), Err(NoPath::OtherName));
    assert_eq!(vault.back("secret/éx/é"), Err(NoPath::Path));
    assert_eq!(vault.back(&"secret/".repeat(1_000)), Err(NoPath::Path));
}

const KINDS: [(BackendKind, &str); 6] = [
    (BackendKind::HashicorpVault, ""),
    (BackendKind::AwsSecretsManager, ""),
    (BackendKind::AzureKeyVault, "--"),
    (BackendKind::GoogleSecretManager, "--"),
    (BackendKind::GoogleSecretManager, "-"),
    (BackendKind::AzureKeyVault, "---"),
];

prop_compose! {
    /// Two sides with the same wildcards, and other text around them.
    fn sides()(
        first in "[ab-]{1,2}",
        parts in proptest::collection::vec(("[ab.-]{0,2}", "[*?]", "[ab.-]{0,2}", "[ab-]{0,2}", "[ab-]{0,2}", any::<bool>()), 0..3),
        rest in any::<bool>(),
    ) -> (String, String) {
        let (mut pattern, mut template) = ("ext".to_owned(), format!("m/{first}"));
        for (before, wildcard, after, left, right, joined) in parts {
            pattern.push_str(&format!("/{before}{wildcard}{after}"));
            template.push_str(if joined { "-" } else { "/" });
            template.push_str(&format!("{left}{wildcard}{right}"));
        }
        if rest {
            pattern.push_str("/**");
            template.push_str("/**");
        }
        (pattern, template)
    }
}

/// A side with its wildcards replaced by these texts.
fn filled(side: &str, texts: &[String]) -> String {
    let mut texts = texts.iter().cycle();
    let side = side.replace("**", "§");
    side.chars()
        .map(|letter| match letter {
            '*' | '§' => texts.next().cloned().unwrap_or_default(),
            '?' => "b".to_owned(),
            letter => letter.to_string(),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn path_and_name_lead_to_each_other_or_to_nothing(
        (pattern, template) in sides(),
        kind in proptest::sample::select(&KINDS[..]),
        texts in proptest::collection::vec("[abA./-]{0,4}", 3),
    ) {
        let Ok(mapping) = Mapping::compile(kind.0, kind.1, &pattern, &template) else { return Ok(()) };
        if let Ok(path) = filled(&pattern, &texts).parse::<SecretPath>()
            && let Ok(name) = mapping.forward(&path)
        {
            prop_assert_eq!(mapping.back(&name), Ok(path.clone()));
            prop_assert!(mapping.matches(&path));
            for end in 0..=path.as_str().len() {
                let start = mapping.listing_prefix_below(&path.as_str()[..end]);
                prop_assert!(name.starts_with(&start), "{} is not below {}", name, start);
                prop_assert!(start.starts_with(mapping.listing_prefix()));
                if kind.0 == BackendKind::HashicorpVault {
                    prop_assert!(matches!(name[start.len()..].chars().next(), None | Some('/')));
                }
            }
            for (end, _) in name.match_indices('/') {
                if let Some(folder) = mapping.folder_of(&name[..end]) {
                    prop_assert!(path.as_str().starts_with(&folder), "{} is not below {}", path, folder);
                }
            }
            prop_assert!(name.starts_with(mapping.listing_prefix()), "{} of {}", name, template);
            if kind.0 == BackendKind::HashicorpVault {
                let below = &name[mapping.listing_prefix().len()..];
                prop_assert!(below.is_empty() || below.starts_with('/'), "{} of {}", name, template);
                prop_assert!(name.split('/').all(|segment| !matches!(segment, "" | "." | "..")));
            }
        }
        let name = filled(&template, &texts);
        if let Ok(path) = mapping.back(&name) {
            let spelled =
                if kind.0 == BackendKind::AzureKeyVault { name.to_ascii_lowercase() } else { name };
            prop_assert_eq!(mapping.forward(&path), Ok(spelled));
        }
    }

    #[test]
    fn compiling_any_text_ends_well(
        pattern in "[a-b*?/.\\[ä-]{0,12}",
        template in "[a-b*?/.\\[ä-]{0,12}",
        name in "\\PC{0,12}",
        separator in "-{0,4}|\\PC{0,3}",
        kind in proptest::sample::select(&BackendKind::ALL[..]),
    ) {
        for pattern in [pattern.clone(), format!("a/{pattern}")] {
            if let Ok(mapping) = Mapping::compile(kind, &separator, &pattern, &template) {
                let _ = (mapping.back(&name), mapping.listing_prefix(), mapping.unlisted_name(), mapping.globs());
                if let Ok(path) = pattern.replace(['*', '?'], "b").parse() {
                    let _ = mapping.forward(&path);
                }
            }
        }
    }

    #[test]
    fn winner_does_not_depend_on_the_order(
        patterns in proptest::collection::btree_set("a(/([ab]|\\*|[ab]\\*|\\?)){1,3}(/\\*\\*)?|a/\\*\\*", 1..8),
        texts in proptest::collection::vec("a(/[ab]{1,2}){1,4}", 8),
        turn in 0_usize..8,
    ) {
        let mut all: Vec<_> = patterns
            .iter()
            .enumerate()
            .map(|(number, pattern)| {
                let mapping = mapping(BackendKind::AwsSecretsManager, pattern, pattern);
                (BackendId(Uuid::from_u128(number as u128)), vec![mapping])
            })
            .collect();
        let one = Routes::new(all.clone());
        let turn = turn % all.len();
        all.rotate_left(turn);
        all.reverse();
        let two = Routes::new(all);

        prop_assert_eq!(one.as_ref().err(), two.as_ref().err());
        if let (Ok(one), Ok(two)) = (one, two) {
            for text in texts {
                let path = path(&text);
                let winner = one.route(&path);
                prop_assert_eq!(&winner, &two.route(&path));
                prop_assert_eq!(one.explain(&path), two.explain(&path));
                // No rule that is asked later can put a loser first.
                let matching = patterns.iter().filter(|pattern| mapping(BackendKind::AwsSecretsManager, pattern, pattern).matches(&path)).count();
                prop_assert_eq!(one.explain(&path).mappings.len(), matching);
                prop_assert_eq!(winner.is_some(), matching > 0);
            }
        }
    }

    #[test]
    fn patterns_that_share_a_path_overlap(
        one in "a(/([ab]|\\*|[ab]\\*|\\?b)){0,3}(/\\*\\*)?",
        two in "a(/([ab]|\\*|[ab]\\*|\\?b)){0,3}(/\\*\\*)?",
        text in "a(/[ab]{1,2}){0,4}",
    ) {
        let (one, two) = (one.parse::<PathPattern>().unwrap(), two.parse::<PathPattern>().unwrap());
        if one.matches(&path(&text)) && two.matches(&path(&text)) {
            prop_assert!(one.overlaps(&two) && two.overlaps(&one));
        }
    }
}

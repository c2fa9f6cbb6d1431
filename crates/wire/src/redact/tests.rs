use super::*;
use proptest::prelude::*;

#[test]
fn takes_out_keys_ids_and_addresses() {
    for (message, expected) in [
        ("bad key xai-Zz81kQ", "bad key [key]"),
        ("bad key: xa***9f.", "bad key: [key]"),
        ("key sk-proj-AbC123def_45, sorry", "key [key], sorry"),
        ("key=\"sk-live...Xy9\"", "key=\"[key]\""),
        ("Authorization: Bearer aBc12345", "Authorization: Bearer [key]"),
        ("secret Zx9Qw2Er7Ty4Ui1Op6As3D", "secret [key]"),
        ("token eyJhbGciOi.eyJzdWIi.c2ln", "token [key]"),
        ("key AIzaSyD4x9q", "key [key]"),
        ("team 0b0e2f5c-1111-4222-8333-abcdefabcdef is out", "team [id] is out"),
        ("see https://console.x.ai/team/7 now", "see [link] now"),
        ("team/0b0e2f5c-1111-4222-8333-abcdefabcdef", "[id]"),
        ("org-Qw12Er34Ty56", "[key]"),
        ("role arn:aws:iam::123456789012:role/x", "role [id]"),
        ("consumer projects/9081726354 suspended", "consumer [id] suspended"),
        ("trace 0123456789abcdef01234567", "trace [id]"),
        ("connect to 10.0.3.17:8443 failed", "connect to [address] failed"),
        ("from 192.168.1.9, port 80", "from [address], port 80"),
        ("peer [fd00::3:1]:8000 and ::1.", "peer [[address]]:8000 and [address]"),
        ("ask root@cluster.example or ops@localhost", "ask [email] or [email]"),
        ("no route to vllm-0.pods.internal:8000/v1", "no route to [host]"),
        ("Post grok.svc.cluster.local: refused", "Post [host] refused"),
        ("localhost:8000 and backend:8080 and gpu-node-7:9000", "[host] and [host] and [host]"),
        ("status at status.example.com.", "status at [host]"),
        ("line\nbreak\u{0}", "line break "),
    ] {
        assert_eq!(redact(message), expected);
    }
}

#[test]
fn leaves_plain_sentences_alone() {
    for message in [
        "Invalid value for 'temperature': 3 is above 2.",
        "The maximum prompt length is 131072 but the request contains 131099 tokens.",
        "this is a team-wide, org-wide rule for grok-4.3",
        "model grok-4-fast-non-reasoning does not take stop",
        "messages.0.content.1.image_url: unsupported format, expected image/png",
        "Unknown parameter: 'tools[0].function.strict'.",
        "No tool call found for function call output with call_id call_Ab3dEfGhIjKl4nOpQ5StUvWx.",
        "tool_use ids without tool_result blocks: toolu_01A09q90qw90lq917835lq9",
        "Previous response with id 'resp_67cb61fa3a448190bcf2c42d96f0d1a8' not found.",
        "max_tokens: 9000 > 8192, which is the maximum for claude-3-5-haiku-20241022",
        "The model `meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8` does not exist.",
        "anthropic.claude-3-5-sonnet-20240620-v1:0 is not supported, e.g. use v1.2.3",
        "at 12:34:56 the limit of 4096 tokens (actual/limit): 2/2 was hit",
        "the bearer token is missing; see std::io and a.b.c",
        "'$.input' is invalid: a number above 18446744073709551615",
        "Qwen2VLForConditionalGeneration has no 20250324 build",
    ] {
        assert_eq!(redact(message), message);
        assert_eq!(
            Redactor::new(Some("xai-Qx71Zt9KpLw2Vb6N"), "api.x.ai").redact(message),
            message
        );
    }
}

#[test]
fn bounds_the_length() {
    assert_eq!(redact(&"é ".repeat(5000)).chars().count(), MAX_CHARS);
    assert_eq!(redact(&"::1 ".repeat(5000)).chars().count(), MAX_CHARS);
}

#[test]
fn takes_out_what_is_configured() {
    let redactor = Redactor::new(Some("Op3rator/K3y+With=Signs"), "grok-gw.corp.example");
    for (message, expected) in [
        ("key Op3rator/K3y+With=Signs!", "key [key]!"),
        ("key OP3RATOR/K3Y+", "key [key]"),
        ("begins xOp3rator/Kx", "begins x[key]x"),
        ("url Op3rator%2FK3y%2BWith%3DSigns", "url [key]"),
        ("hex 4f70337 61746f722f4b3379", "hex 4f70337 [key]"),
        ("at grok-gw.corp.example:9", "at [host]:9"),
        ("Op3rato is only seven", "Op3rato is only seven"),
    ] {
        assert_eq!(redactor.redact(message), expected);
    }
    let plain = Redactor::new(Some("abc12"), "models");
    assert_eq!(plain.redact("abc12 xabc12 at models:80"), "[key] xabc12 at [host]:80");
    assert_eq!(Redactor::new(Some("k"), "h").redact("k h"), "k h");
}

/// Independent of the one under test.
fn in_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let mut word = [0; 3];
        word[..three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        (0..=three.len())
            .map(move |at| ALPHABET[(bits >> (18 - 6 * at) & 63) as usize] as char)
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn windows_of(text: &str) -> HashSet<String> {
    let text = text.to_ascii_lowercase();
    text.as_bytes()
        .windows(WINDOW)
        .map(|window| String::from_utf8_lossy(window).into_owned())
        .collect()
}

proptest! {
    #[test]
    fn no_part_of_a_key_survives(
        key in "[!-~]{8,60}",
        from in 0_usize..60,
        length in 8_usize..60,
        before in "[ -~é]{0,30}",
        after in "[ -~é]{0,30}",
        user in "[a-z]{0,5}:",
    ) {
        let (from, redactor) = (from.min(key.len() - 8), Redactor::new(Some(&key), "h"));
        let part = &key[from..(from + length).min(key.len())];
        for form in [part.to_owned(), part.to_uppercase(), in_base64(format!("{user}{key}").as_bytes())] {
            let told = redactor.redact(&format!("{before}{form}{after}"));
            let secrets = windows_of(&key);
            // A word in brackets is ours.
            for piece in told.split("[key]") {
                prop_assert!(windows_of(piece).is_disjoint(&secrets), "{told}");
            }
            prop_assert_eq!(redactor.redact(&told), told);
        }
        let encoded = in_base64(key.as_bytes());
        let told = redactor.redact(&format!("{before} {encoded}"));
        let known = &encoded[..key.len() * 8 / 6];
        prop_assert!(windows_of(&told).is_disjoint(&windows_of(known)), "{told}");
    }
}

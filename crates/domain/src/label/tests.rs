use super::*;

#[test]
fn names_of_all_scripts_and_emoji_are_names() {
    for name in [
        "laptop",
        "Ада",
        "山田　太郎",
        "سارة",
        "שרה",
        "José's CI, 2026 (new)",
        "देवनागरी",
        "한국어",
        "🚀",
        "❤️ work",
        "👩‍💻",
        "👨‍👩‍👧",
        "🏳️‍🌈",
        "👍🏽",
        "a+b=<c>",
    ] {
        assert_eq!(label(name).as_deref(), Ok(name), "{name}");
    }
    assert_eq!(label("  laptop ").as_deref(), Ok("laptop"));
    assert_eq!(label(&"x".repeat(LONGEST)).unwrap().len(), LONGEST);
}

#[test]
fn what_is_not_seen_is_no_name() {
    for unseen in [
        '\0',
        '\t',
        '\n',
        '\u{7f}',
        '\u{85}',
        '\u{a0}',
        '\u{ad}',
        '\u{34f}',
        '\u{600}',
        '\u{61c}',
        '\u{115f}',
        '\u{180e}',
        '\u{2003}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{206f}',
        '\u{2800}',
        '\u{3164}',
        '\u{e000}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fff9}',
        '\u{ffff}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e007f}',
        '\u{e0100}',
        '\u{f0000}',
        '\u{10ffff}',
    ] {
        for text in [format!("a{unseen}b"), format!("{unseen}ab"), format!("ab{unseen}")] {
            let told = label(&text).unwrap_err().to_string();
            assert!(told.contains(&format!("U+{:04X}", u32::from(unseen))), "{told}");
        }
        label(&unseen.to_string()).unwrap_err();
    }
    // Joiners without two pictographs, selectors without one.
    for text in ["👩\u{200d}", "\u{200d}👩", "👩\u{200d}a", "a\u{fe0f}", "👩\u{200d}\u{200d}💻"]
    {
        assert!(matches!(label(text), Err(BadLabel::Unseen { .. })), "{text:?}");
    }
    for text in ["", " ", "\u{3000}", &"x".repeat(LONGEST + 1)] {
        assert_eq!(label(text), Err(BadLabel::Length), "{text:?}");
    }
}

#[test]
fn the_table_is_in_order() {
    let ends = UNSEEN.iter().flat_map(|(first, last)| [first, last]).collect::<Vec<_>>();
    assert!(ends.windows(2).all(|pair| pair[0] <= pair[1]));
}

#[test]
fn a_text_has_lines_and_no_hidden_characters() {
    assert_eq!(has_only_seen_characters("Two lines,\n\u{2764}\u{fe0f} \u{7b80}"), Ok(()));
    for (text, code, place) in
        [("a\tb", 9, 2), ("\u{202e}a", 0x202e, 1), ("a\n\0", 0, 3), ("a\r", 13, 2)]
    {
        assert_eq!(
            has_only_seen_characters(text),
            Err(UnseenCharacter { code, place }),
            "{text:?}"
        );
    }
}

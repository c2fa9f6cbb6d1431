use super::*;
use proptest::prelude::*;

/// One paragraph each, in our own words.
const USUAL: [(&str, &str); 30] = [
    (
        "english",
        "The lighthouse keeper wrote letters all winter, and nobody on the mainland ever answered one of them.",
    ),
    (
        "long words",
        "Extraordinarily counterintuitive thermodynamic irreversibility characterises non-equilibrium electrochemistry.",
    ),
    (
        "capitals",
        "THE CONSTITUTIONAL AMENDMENT SHALL NOT BE CONSTRUED TO ABRIDGE XYLOPHONE PRIVILEGES",
    ),
    (
        "german",
        "Die Geschwindigkeitsbegrenzung auf der Autobahn wurde gestern im Bundesverfassungsgericht ausführlich besprochen.",
    ),
    (
        "french",
        "L'été dernier, nous étions à la plage où les enfants bâtissaient des châteaux de sable très élevés.",
    ),
    (
        "polish",
        "Zażółć gęślą jaźń, bo w Szczebrzeszynie chrząszcz brzmi w trzcinie i każdy o tym wie.",
    ),
    (
        "finnish",
        "Epäjärjestelmällistyttämättömyydelläänsäkään hän ei saanut ystäviään vakuuttuneiksi asiasta.",
    ),
    (
        "turkish",
        "Çekoslovakyalılaştıramadıklarımızdan mısınız, yoksa başka bir yerden mi geldiniz bugün?",
    ),
    (
        "vietnamese",
        "Hôm nay trời đẹp, chúng tôi đi dạo quanh hồ và nói chuyện về những kế hoạch sắp tới.",
    ),
    (
        "russian",
        "Сегодня утром мы обсуждали, почему распределённые системы так трудно отлаживать в продакшене.",
    ),
    ("greek", "Η θάλασσα ήταν ήρεμη σήμερα το πρωί και οι ψαράδες γύρισαν νωρίς στο λιμάνι."),
    ("arabic", "كانت السماء صافية هذا الصباح وخرج الأطفال إلى الحديقة ليلعبوا مع أصدقائهم."),
    ("hebrew", "הבוקר ירד גשם חזק ברחובות העיר והילדים נשארו בבית וקראו ספרים."),
    ("hindi", "आज सुबह बारिश हो रही थी और बच्चे घर के अंदर खेल रहे थे, फिर सूरज निकल आया।"),
    ("bengali", "আজ সকালে বৃষ্টি হচ্ছিল এবং শিশুরা ঘরের ভিতরে খেলছিল।"),
    ("tamil", "இன்று காலை மழை பெய்தது, குழந்தைகள் வீட்டிற்குள் விளையாடிக்கொண்டிருந்தனர்."),
    ("thai", "เช้านี้ฝนตกหนักมาก เด็กๆ จึงเล่นอยู่ในบ้านและอ่านหนังสือกับคุณยาย"),
    ("burmese", "ယနေ့နံနက် မိုးရွာနေပြီး ကလေးများ အိမ်ထဲတွင် ကစားနေကြသည်။"),
    ("khmer", "ព្រឹកនេះភ្លៀងធ្លាក់ខ្លាំង ក្មេងៗលេងនៅក្នុងផ្ទះ។"),
    ("georgian", "დღეს დილით წვიმდა და ბავშვები სახლში თამაშობდნენ."),
    ("amharic", "ዛሬ ጠዋት ዝናብ እየዘነበ ነበር፤ ልጆቹም ቤት ውስጥ ይጫወቱ ነበር።"),
    ("tibetan", "དེ་རིང་ཞོགས་པར་ཆར་པ་བབས་སོང་། ཕྲུ་གུ་ཚོ་ཁྱིམ་ནང་རྩེད་མོ་རྩེས།"),
    ("chinese", "今天早上下了一场大雨,孩子们在屋里看书、下棋,等到中午太阳才出来。"),
    (
        "japanese",
        "今朝は大雨だったので、子どもたちは家の中で本を読んだりゲームをしたりしていました。",
    ),
    ("korean", "오늘 아침에는 비가 많이 와서 아이들이 집 안에서 책을 읽고 게임을 했습니다."),
    ("emoji", "🎉🥳👩‍👩‍👧‍👦🏳️‍🌈🦖🫠🧿🪬🇨🇭🇧🇷👍🏽"),
    ("mathematics", "∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−f(a)|<ε; ∮_∂Ω ω = ∬_Ω dω ≈ ∑ₙ₌₀^∞ xⁿ⁄n!"),
    (
        "rust",
        "fn main() {\n    let v: Vec<u64> = (0..10).map(|x| x * 2).collect();\n    println!(\"{v:?}\");\n}\n",
    ),
    ("json", "{\"id\":12345,\"items\":[{\"a\":null,\"b\":[1,2,3]},{\"c\":\"x-y_z\"}],\"ok\":true}"),
    ("table", "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n| x | y | z |\n"),
];

fn delta(index: u64, field: &str, text: &str) -> String {
    serde_json::json!({ "choices": [{ "index": index, "delta": { field: text } }] }).to_string()
}

/// Feeds `text` in pieces of `chars` characters.
fn fed(text: &str, chars: usize) -> Meter {
    let mut meter = Meter::default();
    let chars_of_text: Vec<char> = text.chars().collect();
    for piece in chars_of_text.chunks(chars) {
        meter.read_event(delta(0, "content", &piece.iter().collect::<String>()).as_bytes());
    }
    meter
}

#[test]
fn the_ceiling_is_above_o200k_in_every_script() {
    for (name, text) in USUAL {
        let (ceiling, counted) = (fed(text, 1000).output_ceiling(), count(text));
        assert!(ceiling >= counted, "{name}: {ceiling} < {counted}");
        assert!(ceiling <= counted * 6, "{name}: {ceiling} is far above {counted}");
    }
}

#[test]
fn counts_as_o200k_does_however_often_it_is_asked() {
    for (name, text) in USUAL {
        let long = format!("{text} ").repeat(40);
        let mut meter = Meter::default();
        for (at, piece) in long.split_inclusive(' ').enumerate() {
            meter.read_event(delta(0, "content", piece).as_bytes());
            if at % 7 == 0 {
                let _ = meter.output_counted();
            }
        }
        let (counted, expected) = (meter.output_counted(), count(&long));
        let cuts = long.len() as u64 / 1024 + 1;
        let words_have_blanks = text.split(' ').all(|word| word.len() < 200);
        assert!(counted >= expected, "{name}: {counted} < {expected}");
        assert!(
            counted <= expected + 2 * cuts || !words_have_blanks,
            "{name}: {counted} > {expected}"
        );
    }
}

#[test]
fn never_counts_fewer_tokens_than_deltas() {
    let mut meter = fed("abcdefgh", 1);
    assert_eq!(meter.output_counted(), 8);
    assert!(meter.output_ceiling() >= 8);
}

#[test]
fn counts_every_kind_of_output_of_every_choice() {
    let mut meter = Meter::default();
    meter.read_event(delta(0, "content", "one two").as_bytes());
    meter.read_event(delta(1, "reasoning_content", "three four").as_bytes());
    meter.read_event(delta(1, "refusal", "five").as_bytes());
    meter.read_event(
        br#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":
        {"name":"look_up","arguments":"{\"a\": 1}"}}]},"finish_reason":"tool_calls"}]}"#,
    );
    let expected: u64 =
        ["one two", "three four", "five", "look_up", "{\"a\": 1}"].into_iter().map(count).sum();
    assert_eq!(meter.output_counted(), expected);
    assert!(meter.output_ceiling() >= expected);
    assert!(meter.is_finished() && meter.has_output());
}

#[test]
fn the_last_usage_counts_and_is_never_added_up() {
    let mut meter = Meter::default();
    for completion in [1, 2, 7] {
        let total = 10 + completion;
        let usage = serde_json::json!({ "choices": [], "usage": {
            "prompt_tokens": 10, "completion_tokens": completion, "total_tokens": total } });
        meter.read_event(usage.to_string().as_bytes());
    }
    meter.read_event(br#"{"choices":[],"usage":null}"#);
    assert_eq!(meter.usage().unwrap().tokens.completion, 7);
    assert!(!meter.has_output());
}

#[test]
fn garbage_counts_as_one_token_and_ends_nothing() {
    let mut meter = Meter::default();
    for data in [&b"[DONE]"[..], b"", b" "] {
        meter.read_event(data);
    }
    assert_eq!(meter.output_counted(), 0);
    meter.read_event(b"{\"choices\":[{\"index\"");
    meter.read_event(b"\xff\xfe");
    assert_eq!(meter.output_counted(), 2);
    assert!(!meter.is_finished());
}

#[test]
fn memory_is_bounded_for_any_text() {
    for text in ["a", " ", "\n", "今", "word ", "🎉"] {
        let mut meter = Meter::default();
        for _ in 0..40 {
            meter.read_event(delta(0, "content", &text.repeat(3000)).as_bytes());
            assert!(meter.pending.len() <= FOLD_AT);
        }
        let expected = count(&text.repeat(120_000));
        assert!(meter.output_counted() >= expected, "{text:?}");
    }
}

#[test]
fn reads_a_whole_reply_as_one_delta() {
    let mut meter = Meter::default();
    meter.read_event(
        br#"{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",
        "content":"Hello there."},"finish_reason":"stop"}]}"#,
    );
    assert_eq!(meter.output_counted(), count("Hello there."));
    assert!(meter.is_finished());
}

proptest! {
    #[test]
    fn chunking_never_makes_it_fewer(text in "[a-zA-Z0-9 .,;\\n(){}éж今]{0,300}", chars in 1_usize..40) {
        let mut meter = fed(&text, chars);
        prop_assert!(meter.output_counted() >= count(&text));
    }

    #[test]
    fn folding_at_words_changes_nothing(text in "\\PC{0,200}") {
        let mut meter = fed(&text, 1000);
        prop_assert_eq!(meter.output_counted(), count(&text));
        prop_assert_eq!(meter.output_counted(), count(&text));
    }
}

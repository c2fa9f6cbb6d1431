use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Rebuilds the value that a cursor reads.
fn read(cursor: &mut Cursor<'_>) -> Value {
    if cursor.enter(b'{') {
        let mut members = serde_json::Map::new();
        while let Some(name) = cursor.next_member() {
            members.insert(name.into_owned(), read(cursor));
        }
        return members.into();
    }
    if cursor.enter(b'[') {
        let mut elements = Vec::new();
        while cursor.next_element() {
            elements.push(read(cursor));
        }
        return elements.into();
    }
    serde_json::from_str(cursor.skip()).unwrap()
}

fn without(text: &str, cuts: &[Range<usize>]) -> String {
    let mut left = String::new();
    let mut at = 0;
    for cut in cuts {
        left += &text[at..cut.start];
        at = cut.end;
    }
    left + &text[at..]
}

#[test]
fn cuts_take_one_comma_along() {
    for (text, left) in [
        (r#"{"a":1,"x":2,"b":3}"#, r#"{"a":1,"b":3}"#),
        (r#"{ "x" : [1,2] , "a":1}"#, r#"{ "a":1}"#),
        (r#"{"x":1,"y":2,"a":1, "x2":{"a":[]}}"#, r#"{"a":1}"#),
        (r#"{"a":1, "x":2}"#, r#"{"a":1}"#),
        (r#"{"x":2 }"#, "{ }"),
        (r#"{"\u0078":2,"a":1}"#, r#"{"a":1}"#),
        ("{}", "{}"),
        ("[1]", "[1]"),
    ] {
        let cuts = cut_members(text, |name| name.starts_with(['x', 'y']));
        assert_eq!(without(text, &cuts), left, "{text}");
    }
    for (text, left) in [("[1,2,3,4]", "[3]"), ("[ 1 , 2 ]", "[ ]"), ("[]", "[]"), ("{}", "{}")] {
        assert_eq!(without(text, &cut_elements(text, |at| at != 2)), left, "{text}");
    }
}

#[test]
fn ends_on_what_is_no_json() {
    for odd in
        ["", "{", "[", "{\"", "{\"a\"", "{\"a\":", "[}", "{]", "[1 2", "}{", "[[[", ",", "{1:2}"]
    {
        let mut cursor = Cursor::new(odd);
        if cursor.enter(b'{') {
            while cursor.next_member().is_some() {
                cursor.skip();
            }
        } else if cursor.enter(b'[') {
            while cursor.next_element() {
                cursor.skip();
            }
        }
        let _ = Cursor::new(odd).skip();
        let _ = cut_members(odd, |_| true);
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}|[\"\\\\\\[\\]{}:,]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"\\\\é]{0,3}", inner, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn reads_what_is_there(value in anything(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap();
        prop_assert_eq!(read(&mut Cursor::new(&text)), value);
        prop_assert_eq!(Cursor::new(&text).skip(), &text);
    }

    #[test]
    fn what_is_left_after_cuts_is_the_rest(
        value in prop::collection::btree_map("[a-f]{1,2}", anything(), 0..6),
        pretty in any::<bool>(),
    ) {
        let mut value: Value = value.into_iter().collect();
        if value.is_null() {
            value = json!({});
        }
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap();
        let left = without(&text, &cut_members(&text, |name| name < "c"));
        value.as_object_mut().unwrap().retain(|name, _| name.as_str() >= "c");
        prop_assert_eq!(serde_json::from_str::<Value>(&left).unwrap(), value);
    }
}

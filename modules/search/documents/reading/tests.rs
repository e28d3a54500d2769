use super::*;
use crate::schema::create::definition_of;
use engramdb_engine::types::StringValue;

/// A document with the same values at each path.
struct Same<'v>(&'v [FieldValue<'v>]);

impl DocumentValues for Same<'_> {
    fn values(&self, _path: &[u8], each: impl FnMut(FieldValue<'_>)) {
        self.0.iter().copied().for_each(each);
    }
}

/// What the only field of a schema reads of such a document; an error as its text.
fn content(field: &str, values: &[FieldValue<'_>]) -> Result<FieldContent, String> {
    let mut definition = definition_of(&format!("FT.CREATE i SCHEMA f {field}"));
    if let FieldKind::Tag { separator, .. } = &mut definition.fields[0].kind
        && !field.contains("SEPARATOR")
    {
        // As documents have it that are no hashes.
        *separator = NO_SEPARATOR;
    }
    let read = read(&definition, &Same(values));
    read.map(|mut content| content.fields.pop().expect("one field")).map_err(|unreadable| {
        assert_eq!(unreadable.field, 0);
        unreadable.cause.in_style(crate::error::ErrorStyle::Plain).to_string()
    })
}

fn tags(tags: &[&str]) -> Result<FieldContent, String> {
    Ok(FieldContent::Terms(tags.iter().map(|tag| tag.as_bytes().to_vec()).collect()))
}

/// `None` is between two texts.
fn words(words: &[Option<&str>]) -> Result<FieldContent, String> {
    Ok(FieldContent::Text(words.iter().map(|word| word.map(str::as_bytes)).collect()))
}

const TEXT: FieldValue<'_> = FieldValue::Text("Red, blue");
const VECTOR: &str = "VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";

/// A path can name the same text hundreds of times.
#[test]
fn the_texts_of_a_field_are_bounded() {
    let long = "x".repeat(TEXT_BYTES_MAX / 3);
    let text = FieldValue::Text(&long);
    for field in ["TEXT", "TAG"] {
        assert!(content(field, &[text; 3]).is_ok());
        let refused = Err("The texts of a field have more than 512 MiB".to_owned());
        assert_eq!(content(field, &[text; 4]), refused);
        assert_eq!(content(field, &[FieldValue::Array(&[text; 4])]), refused);
    }
}

#[test]
fn a_field_takes_all_values_of_its_type() {
    assert_eq!(content("NUMERIC", &[FieldValue::Number(1.5)]), Ok(FieldContent::Number(1.5)));
    let numbers =
        [FieldValue::Number(3.0), FieldValue::Null, FieldValue::Number(1.0), FieldValue::Number(3.0)];
    let wanted = Ok(FieldContent::Numbers(vec![3.0, 1.0, 3.0]));
    assert_eq!(content("NUMERIC", &numbers), wanted);
    assert_eq!(content("NUMERIC", &[FieldValue::Array(&numbers)]), wanted);
    assert_eq!(content("NUMERIC", &[FieldValue::Numbers(&[3.0, 1.0, 3.0])]), wanted);
    assert_eq!(content("NUMERIC", &[FieldValue::Numbers(&[])]), Ok(FieldContent::Numbers(vec![])));
    let tags = [TEXT, FieldValue::Null, FieldValue::Text("true"), FieldValue::Text("")];
    assert_eq!(content("TAG", &tags), self::tags(&["red, blue", "true"]));
    assert_eq!(content("TAG", &[FieldValue::Array(&tags)]), self::tags(&["red, blue", "true"]));
    assert_eq!(content("TAG", &[FieldValue::Boolean(true)]), self::tags(&["true"]));
    let tag = |text: &str| Ok(FieldContent::Tag(text.as_bytes().to_vec()));
    assert_eq!(content("TAG INDEXEMPTY", &tags[3..]), tag(""), "the text of the document");
    assert_eq!(content("TAG CASESENSITIVE", &tags[..1]), tag("Red, blue"));
    assert_eq!(content("TAG", &tags[..1]), self::tags(&["red, blue"]), "not that of the document");
    assert_eq!(content("TAG SEPARATOR ,", &tags), self::tags(&["red", "blue", "true"]));
    let texts = [TEXT, FieldValue::Text("the"), FieldValue::Text("green")];
    let all = [Some("red"), Some("blue"), None, None, Some("green")];
    assert_eq!(content("TEXT", &texts), words(&all));
    let cells =
        [(2.3, 48.8), (0.0, 0.0)].map(|(longitude, latitude)| Position { longitude, latitude }.cell());
    assert_eq!(
        content("GEO", &[FieldValue::Text("2.3,48.8"), FieldValue::Text("0 0")]),
        Ok(FieldContent::Numbers(cells.to_vec()))
    );
    assert_eq!(content("GEOSHAPE", &[TEXT]), Ok(FieldContent::Present));
    assert_eq!(content(VECTOR, &[FieldValue::Numbers(&[1.0, 2.0])]), Ok(FieldContent::Vectors(1)));
    let stored = StringValue::new(&[0; 8]);
    assert_eq!(content(VECTOR, &[FieldValue::Stored((&stored).into())]), Ok(FieldContent::Vectors(1)));
    let two = [FieldValue::Numbers(&[1.0, 2.0]), FieldValue::Null, FieldValue::Numbers(&[1.0, 2.0])];
    assert_eq!(content(VECTOR, &two), Ok(FieldContent::Vectors(2)));
    for field in ["TEXT", "TAG", "NUMERIC", "GEO", "GEOSHAPE", VECTOR] {
        assert_eq!(content(field, &[]), Ok(FieldContent::Missing), "{field}");
        assert_eq!(content(field, &[FieldValue::Null]), Ok(FieldContent::Present), "{field}");
        let two = content(field, &[FieldValue::Null, FieldValue::Null]);
        assert_eq!(two.is_ok(), field != "GEOSHAPE", "{field}");
    }
    assert_eq!(
        content("NUMERIC", &[FieldValue::Null, FieldValue::Number(1.0)]),
        Ok(FieldContent::Numbers(vec![1.0])),
        "an aggregation shows the first value, which is the null"
    );
    assert_eq!(content("TAG", &[FieldValue::Text("a"), FieldValue::Null]), self::tags(&["a"]));
    for field in ["TEXT", "TAG", "GEO"] {
        assert_eq!(content(field, &[FieldValue::Numbers(&[])]), Ok(FieldContent::Present), "{field}");
    }
    assert_eq!(content("NUMERIC NOINDEX", &[FieldValue::Number(1.0)]), Ok(FieldContent::Present));
}

#[test]
fn a_value_of_another_type_or_content_makes_the_document_unreadable() {
    const STRING: &str = "Invalid JSON type: String type can represent only TEXT, TAG, GEO or GEOMETRY field";
    const NUMBER: &str = "Invalid JSON type: Numeric type can represent only NUMERIC field";
    const BOOLEAN: &str = "Invalid JSON type: Boolean type can be represent only TAG field";
    const OBJECT: &str = "Invalid JSON type: Object type can represent only GEOMETRY fields";
    const ARRAY: &str = "Invalid JSON type: Array type cannot represent GEOMETRY field";
    const ELEMENT: &str = "TEXT/TAG fields can only contain strings or nulls";
    const NUMERIC_ELEMENT: &str = "NUMERIC fields can only contain numeric or nulls";
    let other = FieldValue::Other;
    for (field, value, cause) in [
        ("NUMERIC", TEXT, STRING),
        ("NUMERIC", FieldValue::Boolean(true), BOOLEAN),
        ("NUMERIC", FieldValue::Number(f64::NAN), "Invalid numeric value: 'NaN'"),
        ("TEXT", FieldValue::Boolean(true), BOOLEAN),
        ("TEXT", FieldValue::Numbers(&[1.0]), ELEMENT),
        ("GEO", FieldValue::Array(&[FieldValue::Text("1,2"), FieldValue::Boolean(true)]), ELEMENT),
        ("TAG", FieldValue::Array(&[FieldValue::Boolean(true)]), ELEMENT),
        ("TAG", FieldValue::Array(&[other]), ELEMENT),
        ("NUMERIC", FieldValue::Array(&[FieldValue::Number(1.0), TEXT]), NUMERIC_ELEMENT),
        ("NUMERIC", FieldValue::Array(&[FieldValue::Boolean(true)]), NUMERIC_ELEMENT),
        (
            VECTOR,
            FieldValue::Array(&[FieldValue::Number(1.0), FieldValue::Null]),
            "Invalid vector element at index 1",
        ),
        (VECTOR, FieldValue::Array(&[other, other]), "Invalid vector element at index 0"),
        ("TEXT NOINDEX", other, OBJECT),
        ("TAG", FieldValue::Number(1.0), NUMBER),
        ("GEO", FieldValue::Number(1.0), NUMBER),
        ("GEO", TEXT, "Invalid geo string"),
        ("GEOSHAPE", FieldValue::Boolean(false), BOOLEAN),
        ("GEOSHAPE", FieldValue::Numbers(&[]), ARRAY),
        (VECTOR, TEXT, STRING),
        (VECTOR, other, OBJECT),
        (VECTOR, FieldValue::Numbers(&[1.0]), "Invalid vector length. Expected 2, got 1"),
        (VECTOR, FieldValue::Numbers(&[]), "Empty array for vector field on JSON document"),
        (
            VECTOR,
            FieldValue::Numbers(&[1.0, 1e300]),
            "Could not add vector with a component that is not a finite number",
        ),
    ] {
        assert_eq!(content(field, &[value]), Err(cause.to_owned()), "{field} {value:?}");
        // Wherever it is among others: these are read as an array's elements are.
        let among = match field {
            _ if field == VECTOR || cause.starts_with("Invalid geo") || cause.ends_with("'NaN'") => cause,
            "NUMERIC" => NUMERIC_ELEMENT,
            "GEOSHAPE" => ARRAY,
            _ => ELEMENT,
        };
        for all in [[FieldValue::Null, value, FieldValue::Null], [value, FieldValue::Null, FieldValue::Null]]
        {
            assert_eq!(content(field, &all), Err(among.to_owned()), "{field} {value:?}");
        }
    }
    // What a single value can be, and one of several cannot.
    for (field, value, cause) in [
        ("TAG", FieldValue::Boolean(true), ELEMENT),
        ("TEXT", FieldValue::Array(&[TEXT]), ELEMENT),
        ("NUMERIC", FieldValue::Numbers(&[1.0]), NUMERIC_ELEMENT),
        ("GEOSHAPE", TEXT, ARRAY),
    ] {
        assert!(content(field, &[value]).is_ok(), "{field}");
        assert_eq!(content(field, &[value, value]), Err(cause.to_owned()), "{field}");
    }
}

#[test]
fn numbers_become_a_vector_of_the_fields_type() {
    let vector_of = |element: &str, numbers: &[f64]| {
        let field = format!("f VECTOR FLAT 6 TYPE {element} DIM 2 DISTANCE_METRIC L2");
        let definition = definition_of(&format!("FT.CREATE i SCHEMA {field}"));
        let FieldKind::Vector(options) = &definition.fields[0].kind else { unreachable!("a vector field") };
        let mut made = None;
        each_vector(
            options,
            &Same(&[FieldValue::Numbers(numbers)]),
            &definition.fields[0].identifier,
            |blob| made = Some(blob.to_vec()),
        );
        made
    };
    let bytes = |bytes: &[&[u8]]| Some(bytes.concat());
    let f32s = bytes(&[&1.5f32.to_le_bytes(), &(-2f32).to_le_bytes()]);
    assert_eq!(vector_of("FLOAT32", &[1.5, -2.0]), f32s);
    assert_eq!(vector_of("FLOAT64", &[0.1, 1e300]), bytes(&[&0.1f64.to_le_bytes(), &1e300f64.to_le_bytes()]));
    assert_eq!(vector_of("FLOAT16", &[1.0, -2.0]), bytes(&[&[0x00, 0x3c], &[0x00, 0xc0]]));
    assert_eq!(vector_of("BFLOAT16", &[1.0, -2.0]), bytes(&[&[0x80, 0x3f], &[0x00, 0xc0]]));
    assert_eq!(vector_of("INT8", &[-128.0, 127.0]), bytes(&[&[0x80, 0x7f]]));
    assert_eq!(vector_of("UINT8", &[0.0, 255.0]), bytes(&[&[0, 255]]));
    for (element, numbers) in [
        ("FLOAT32", [1e39, 0.0]),
        ("FLOAT16", [70_000.0, 0.0]),
        ("INT8", [128.0, 0.0]),
        ("INT8", [0.5, 0.0]),
        ("UINT8", [-1.0, 0.0]),
        ("UINT8", [f64::NAN, 0.0]),
    ] {
        assert_eq!(vector_of(element, &numbers), None, "{element} {numbers:?}");
    }
}

/// As in RediSearch, such a document is not indexed.
#[test]
fn values_of_fields_without_an_index_have_the_type_of_the_field() {
    let text = FieldValue::Text("x");
    for (field, value, is_one) in [
        ("NUMERIC NOINDEX", FieldValue::Number(1.0), true),
        ("NUMERIC NOINDEX", text, false),
        ("NUMERIC NOINDEX SORTABLE", text, false),
        ("NUMERIC NOINDEX", FieldValue::Boolean(true), false),
        ("NUMERIC NOINDEX", FieldValue::Null, true),
        ("NUMERIC NOINDEX", FieldValue::Array(&[FieldValue::Number(1.0), FieldValue::Null]), true),
        ("NUMERIC NOINDEX", FieldValue::Array(&[FieldValue::Number(1.0), TEXT]), false),
        ("TEXT NOINDEX", text, true),
        ("TEXT NOINDEX", FieldValue::Number(1.0), false),
        ("TEXT NOINDEX", FieldValue::Boolean(true), false),
        ("TAG NOINDEX", FieldValue::Boolean(true), true),
        ("TAG NOINDEX", FieldValue::Number(1.0), false),
        ("GEO NOINDEX", FieldValue::Text("1,2"), true),
        ("GEO NOINDEX", text, false),
        ("GEO NOINDEX", FieldValue::Number(1.0), false),
        ("GEOSHAPE NOINDEX", text, true),
        ("GEOSHAPE NOINDEX", FieldValue::Number(1.0), false),
    ] {
        assert_eq!(content(field, &[value]).is_ok(), is_one, "{field} {value:?}");
    }
    let read = content("TEXT NOINDEX", &[text]);
    assert_eq!(read, Ok(FieldContent::Present));
}

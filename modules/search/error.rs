//! What is wrong with a request: one table of kinds, each with the two texts that clients know.
//!
//! Clients compare these texts. Those in use today know RediSearch's texts up to 8.6, which have no code
//! word; from 8.8 on each begins with one. The setting `search-error-style` chooses (`settings`). So an error
//! is kept as its kind and what fills the text in, and becomes a text where a command ends.

use engramdb_engine::command::CommandError;
use std::borrow::Cow;

/// What went wrong: an entry of the table, or an error of the engine, which has one text.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchError {
    Listed(Kind, Vec<String>),
    Engine(CommandError),
}

/// Which of the two texts a client gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorStyle {
    /// Without code words, as up to 8.6.
    #[default]
    Plain,
    /// With code words, as from 8.8 on.
    Codes,
}

/// Kinds, each with its plain text and its text with a code word. `{}` is replaced by the next argument,
/// `{0}` and `{1}` by the argument of that number.
macro_rules! kinds {
    ($($kind:ident: $plain:literal, $coded:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($kind),* }

        impl Kind {
            fn texts(self) -> [&'static str; 2] {
                match self { $(Kind::$kind => [$plain, $coded]),* }
            }

            #[cfg(test)]
            const ALL: &'static [Kind] = &[$(Kind::$kind),*];
        }
    };
}

kinds! {
    // Indexes. RediSearch's commands each had a text of their own for one that is not there.
    NoIndex: "{}: no such index", "SEARCH_INDEX_NOT_FOUND Index not found: {}";
    NoIndexToTell: "Unknown index name", "SEARCH_INDEX_NOT_FOUND Index not found: {}";
    NoIndexToChange: "Unknown Index name", "SEARCH_INDEX_NOT_FOUND Index not found: {}";
    IndexExists: "Index already exists", "SEARCH_INDEX_EXISTS Index already exists";
    NoIndexForAlias: "Unknown index name (or name is an alias itself)",
        "SEARCH_INDEX_NOT_FOUND Unknown index name (or name is an alias itself)";
    AliasExists: "Alias already exists", "SEARCH_INDEX_EXISTS Alias already exists";
    AliasIsIndex: "Alias conflicts with an existing index name",
        "SEARCH_ALIAS_CONFLICT Alias conflicts with an existing index name";
    NoAlias: "Alias does not exist", "Alias does not exist";
    AliasOfOther: "Alias does not belong to provided spec",
        "SEARCH_INDEX_NOT_FOUND Alias does not belong to provided spec";
    AlterWithoutSchema: "ALTER must be followed by SCHEMA", "ALTER must be followed by SCHEMA";
    AlterAction: "Unknown action passed to ALTER SCHEMA", "Unknown action passed to ALTER SCHEMA";
    AlterNothing: "No fields provided", "SEARCH_PARSE_ARGS No fields provided";
    BadDistance: "bad distance given, distance must be a natural number between 1 to 4",
        "SEARCH_PARSE_ARGS bad distance given, distance must be a natural number between 1 to 4";
    NoDistance: "DISTANCE arg is given but no DISTANCE comes after",
        "SEARCH_PARSE_ARGS DISTANCE arg is given but no DISTANCE comes after";
    NoTerms: "TERM arg is given but no TERM params comes after", "SEARCH_PARSE_ARGS TERM arg is given but no TERM params comes after";
    BadTerms: "bad format, exlude/include operation was not given", "SEARCH_PARSE_ARGS bad format, exlude/include operation was not given";
    NoDictionary: "Dict does not exist: {}", "SEARCH_PARSE_ARGS Dict does not exist: {}";
    TooManyAlike: "More than {} words are like those of the query: ask for a smaller DISTANCE",
        "SEARCH_LIMIT More than {} words are like those of the query: ask for a smaller DISTANCE";
    NoDictionaryToDump: "could not open dict key", "SEARCH_PARSE_ARGS could not open dict key";
    BadPayload: "Invalid payload: {}", "SEARCH_PARSE_ARGS Invalid payload: {}";
    BadMax: "MAX: {}", "SEARCH_PARSE_ARGS MAX: {}";
    UnrecognizedArgument: "Unrecognized argument: {}", "SEARCH_PARSE_ARGS Unrecognized argument: {}";
    NoField: "No such field", "SEARCH_ATTR_BAD No such field";
    NoTagField: "Not a tag field", "SEARCH_ATTR_BAD Not a tag field";

    // Options.
    DocumentExists: "Document already exists", "SEARCH_DOC_EXISTS Document already exists";
    NoDocument: "Document does not exist", "SEARCH_DOC_NOT_FOUND Document does not exist";
    DocumentScore: "Could not parse document score", "SEARCH_PARSE_ARGS Could not parse document score";
    ScoreBounds: "Score must be between 0 and 1", "SEARCH_PARSE_ARGS Score must be between 0 and 1";
    NoFieldList: "No field list found", "SEARCH_PARSE_ARGS No field list found";
    FieldsUnpaired: "Fields must be specified in FIELD VALUE pairs",
        "SEARCH_ADD_ARGS Fields must be specified in FIELD VALUE pairs";
    UnknownKeyword: "Unknown keyword `{}` provided", "SEARCH_ADD_ARGS Unknown keyword `{}` provided";
    UnsupportedLanguage: "Unsupported language", "SEARCH_ADD_ARGS Unsupported language";
    NoPayload: "PAYLOAD: Expected an argument, but none provided",
        "SEARCH_ADD_ARGS PAYLOAD: Expected an argument, but none provided";
    BadDocumentKey: "Invalid Redis key", "SEARCH_KEYTYPE_BAD Invalid Redis key";
    UnknownArgument: "Unknown argument `{}`", "SEARCH_ARG_UNRECOGNIZED Unknown argument `{}`";
    UnknownArgumentAt: "Unknown argument `{0}` at position {1} for <main>",
        "SEARCH_ARG_UNRECOGNIZED Unknown argument `{0}` at position {1} for <main>";
    BadArguments: "Bad arguments for {}: {}", "SEARCH_PARSE_ARGS Bad arguments for {}: {}";
    BadSortBy: "Bad SORTBY arguments", "SEARCH_PARSE_ARGS Bad SORTBY arguments";
    NeedsArgument: "Need an argument for {}", "SEARCH_PARSE_ARGS Need an argument for {}";
    NeedsTimeout: "Need argument for TIMEOUT", "SEARCH_PARSE_ARGS Need argument for TIMEOUT";
    BadTimeout: "TIMEOUT requires a non negative integer", "SEARCH_PARSE_ARGS TIMEOUT requires a non negative integer";
    BadDialect: "DIALECT requires a non negative integer >=1 and <= 4",
        "SEARCH_PARSE_ARGS DIALECT requires a non negative integer >=1 and <= 4";
    BadFormat: "FORMAT {} is not supported", "SEARCH_PARSE_ARGS FORMAT {} is not supported";
    ExpandNeedsResp3: "EXPAND format is only supported with RESP3",
        "SEARCH_PARSE_ARGS EXPAND format is only supported with RESP3";
    ExpandNeedsDialect: "EXPAND format requires dialect 3 or greater",
        "SEARCH_PARSE_ARGS EXPAND format requires dialect 3 or greater";
    ExpandNeedsJson: "EXPAND format is only supported with JSON",
        "SEARCH_PARSE_ARGS EXPAND format is only supported with JSON";
    NoLanguage: "No such language", "SEARCH_QUERY_BAD No such language";
    BadOption: "Bad arguments for {}", "SEARCH_PARSE_ARGS Bad arguments for {}";
    NoSuchProperty: "No such property `{}`", "SEARCH_PROP_NOT_FOUND No such property `{}`";
    NotInSchema: "Property `{}` is not in schema", "SEARCH_QUERY_BAD Property `{}` is not in schema";
    NotPhonetic: "field does not support phonetics", "SEARCH_INVAL field does not support phonetics";
    NoOffsets: "Cannot use highlight/summarize because NOOFSETS was specified at index level",
        "SEARCH_VALUE_BAD Cannot use highlight/summarize because NOOFSETS was specified at index level";
    ExplainNeedsScores: "EXPLAINSCORE must be accompanied with WITHSCORES",
        "SEARCH_PARSE_ARGS EXPLAINSCORE must be accompanied with WITHSCORES";
    BadTanhFactor: "BM25STD_TANH_FACTOR must be between 1 and 10000 inclusive",
        "SEARCH_PARSE_ARGS BM25STD_TANH_FACTOR must be between 1 and 10000 inclusive";
    NoScorer: "No such scorer {}", "SEARCH_QUERY_BAD No such scorer {}";
    SecondSortBy: "Multiple SORTBY steps are not allowed", "SEARCH_PARSE_ARGS Multiple SORTBY steps are not allowed";
    SortByMax: "SORTBY MAX is not supported by FT.SEARCH", "SEARCH_PARSE_ARGS SORTBY MAX is not supported by FT.SEARCH";
    NoProperty: "Property `{}` not loaded nor in schema", "SEARCH_PROP_NOT_FOUND Property `{}` not loaded nor in schema";
    ReturnWithoutName: "RETURN path AS name - must be accompanied with NAME",
        "SEARCH_PARSE_ARGS RETURN path AS name - must be accompanied with NAME";
    ShortLimit: "LIMIT requires two arguments", "SEARCH_PARSE_ARGS LIMIT requires two arguments";
    BadLimit: "LIMIT needs two numeric arguments", "SEARCH_PARSE_ARGS LIMIT needs two numeric arguments";
    LimitOver: "{} exceeds maximum of {}", "SEARCH_LIMIT_OVER {} exceeds maximum of {}";
    FilterShort: "FILTER requires 3 arguments", "SEARCH_PARSE_ARGS FILTER requires 3 arguments";
    FilterEmpty: "Numeric/Geo filter value/s cannot be empty",
        "SEARCH_PARSE_ARGS Numeric/Geo filter value/s cannot be empty";
    FilterRange: "Bad {} range: {}", "SEARCH_PARSE_ARGS Bad {} range: {}";
    ParametersUnpaired: "Parameters must be specified in PARAM VALUE pairs",
        "SEARCH_ADD_ARGS Parameters must be specified in PARAM VALUE pairs";
    ParametersTwice: "Multiple PARAMS are not allowed. Parameters can be defined only once",
        "SEARCH_ADD_ARGS Multiple PARAMS are not allowed. Parameters can be defined only once";
    ParameterTwice: "Duplicate parameter `{}`", "SEARCH_ADD_ARGS Duplicate parameter `{}`";
    NoParameter: "No such parameter `{}`", "SEARCH_PARAM_NOT_FOUND Parameter not found `{}`";
    NoProfiledCommand: "No `SEARCH` or `AGGREGATE` provided", "No `SEARCH`, `AGGREGATE`, or `HYBRID` provided";
    NoQueryKeyword: "The QUERY keyword is expected", "The QUERY keyword is expected";
    NoQuery: "No query string provided", "SEARCH_PARSE_ARGS No query string provided";
    Unsupported: "{} not supported by this server yet", "SEARCH_UNSUPPORTED {} not supported by this server yet";
    Timeout: "Timeout limit was reached", "SEARCH_TIMEOUT Timeout limit was reached";
    Backfilling: "Timeout limit was reached: the index is still being built from existing keys (FT.INFO says how far)",
        "SEARCH_TIMEOUT Timeout limit was reached: the index is still being built from existing keys (FT.INFO says how far)";

    // Queries.
    Syntax: "Syntax error at offset {} near {}", "SEARCH_SYNTAX Syntax error at offset {} near {}";
    NoVectorCommand: "Syntax error: Expecting Vector Similarity command at offset {} near {}",
        "SEARCH_SYNTAX Syntax error: Expecting Vector Similarity command at offset {} near {}";
    NoRangeCommand: "Syntax error: expecting vector similarity range command at offset {} near {}",
        "SEARCH_SYNTAX Syntax error: expecting vector similarity range command at offset {} near {}";
    TooDeep: "Parser stack overflow. Try moving nested parentheses more to the left",
        "SEARCH_SYNTAX Parser stack overflow. Try moving nested parentheses more to the left";
    QueryTooLarge: "The query is too large: it may have {} terms, each counted for every field that it is looked for in",
        "SEARCH_LIMIT The query is too large: it may have {} terms, each counted for every field that it is looked for in";
    UnknownField: "Unknown field at offset {} near {}", "SEARCH_SYNTAX Unknown field at offset {} near {}";
    WrongField: "Expected a {0} field at offset {1} near {2}", "SEARCH_SYNTAX Expected a {0} field at offset {1} near {2}";
    NeedsIndexMissing: "'ismissing' requires field '{1}' to be defined with 'INDEXMISSING'",
        "SEARCH_SYNTAX 'ismissing' requires defining the field with 'INDEXMISSING' at offset {0} near {1}";
    NeedsIndexEmpty: "Use `INDEXEMPTY` in field creation in order to index and query for empty strings",
        "SEARCH_SYNTAX Use `INDEXEMPTY` in field creation in order to index and query for empty strings";
    BadNumber: "Invalid numeric value ({}) for parameter `{}`",
        "SEARCH_NUMERIC_VALUE_INVALID Invalid numeric value ({}) for parameter `{}`";
    BadLimitNumber: "Bad {0} range: {1}",
        "SEARCH_NUMERIC_VALUE_INVALID Invalid numeric value ({1}) for parameter `{2}`";
    BadAttributeValue: "Invalid value ({}) for `{}`", "SEARCH_VALUE_BAD Invalid value ({}) for `{}`";
    UnknownAttribute: "Invalid attribute {}", "SEARCH_OPTION_INVALID Invalid attribute {}";

    // Vectors.
    VectorQuery: "Error parsing vector similarity query: {}", "SEARCH_QUERY_BAD Error parsing vector similarity query: {}";
    VectorOption: "Error parsing vector similarity parameters: Invalid option",
        "SEARCH_OPTION_INVALID Invalid option (Error parsing vector similarity parameters)";
    VectorValue: "Error parsing vector similarity parameters: Invalid value was given",
        "SEARCH_VALUE_BAD Invalid value was given (Error parsing vector similarity parameters)";
    VectorTwice: "Error parsing vector similarity parameters: Parameter was specified twice",
        "SEARCH_PARAM_DUP Parameter was specified twice (Error parsing vector similarity parameters)";
    NotHybrid: "Error parsing vector similarity parameters: hybrid query attributes were sent for a non-hybrid query",
        "SEARCH_HYBRID_ATTR_NON_HYBRID hybrid query attributes were sent for a non-hybrid query (Error parsing vector similarity parameters)";
    NotRange: "Error parsing vector similarity parameters: range query attributes were sent for a non-range query",
        "SEARCH_RANGE_ATTR_NON_RANGE range query attributes were sent for a non-range query (Error parsing vector similarity parameters)";
    BadPolicy: "Error parsing vector similarity parameters: invalid hybrid policy was given",
        "SEARCH_HYBRID_POLICY_BAD invalid hybrid policy was given (Error parsing vector similarity parameters)";
    ExactWithBatchSize: "Error parsing vector similarity parameters: 'batch size' is irrelevant for 'ADHOC_BF' policy",
        "SEARCH_ADHOC_BATCH_SIZE_IRRELEVANT 'batch size' is irrelevant for the selected policy (Error parsing vector similarity parameters)";
    ExactWithEf: "Error parsing vector similarity parameters: 'EF_RUNTIME' is irrelevant for 'ADHOC_BF' policy",
        "SEARCH_ADHOC_EF_RUNTIME_IRRELEVANT 'EF_RUNTIME' is irrelevant for the selected policy (Error parsing vector similarity parameters)";
    BadRecall: "Error parsing vector similarity parameters: RECALL is a number above 0, and at most 1, not `{}`",
        "SEARCH_VALUE_BAD RECALL is a number above 0, and at most 1, not `{}` (Error parsing vector similarity parameters)";
    RecallWithEf: "Error parsing vector similarity parameters: RECALL and EF_RUNTIME exclude each other",
        "SEARCH_OPTION_INVALID RECALL and EF_RUNTIME exclude each other (Error parsing vector similarity parameters)";
    BadShardRatio: "Invalid shard k ratio value '{}'", "SEARCH_QUERY_BAD Invalid shard k ratio value '{}'";
    NameTaken: "Property `{}` already exists in schema", "SEARCH_INDEX_EXISTS Property `{}` already exists in schema";
    NameTwice: "Property `{}` specified more than once", "SEARCH_FIELD_DUP Property `{}` specified more than once";
    SecondName: "Distance field was specified twice for vector query: {} and {}",
        "SEARCH_FIELD_DUP Distance field was specified twice for vector query: {} and {}";

    // Schemas.
    NoSchema: "No schema found", "SEARCH_PARSE_ARGS No schema found";
    NoFields: "Fields arguments are missing", "SEARCH_PARSE_ARGS Fields arguments are missing";
    TooManyFields: "Schema is limited to {} fields", "SEARCH_LIMIT Schema is limited to {} fields";
    TooManyPatterns: "Schema is limited to {} patterns (=~) in all paths",
        "SEARCH_LIMIT Schema is limited to {} patterns (=~) in all paths";
    FieldTwice: "Duplicate field in schema - {}", "SEARCH_QUERY_BAD Duplicate field in schema - {}";
    FieldUnnamed: "Field name cannot be empty", "SEARCH_QUERY_BAD Field name cannot be empty";
    BadPath: "Invalid JSONPath '{}' in attribute '{}' in index '{}'",
        "SEARCH_QUERY_BAD Invalid JSONPath '{}' in attribute '{}' in index '{}'";
    FieldUntyped: "Field `{}` does not have a type", "SEARCH_PARSE_ARGS Field `{}` does not have a type";
    BadFieldType: "Invalid field type for field `{}`", "SEARCH_PARSE_ARGS Invalid field type for field `{}`";
    FieldContradicts: "'Field cannot be defined with both `NOINDEX` and `INDEXMISSING` `{}` '",
        "SEARCH_PARSE_ARGS 'Field cannot be defined with both `NOINDEX` and `INDEXMISSING` `{}` '";
    RequiresArgument: "{} requires an argument", "SEARCH_PARSE_ARGS {} requires an argument";
    BadRuleType: "Invalid rule type: {}", "SEARCH_PARSE_ARGS Invalid rule type: {}";
    BadLanguage: "Invalid language", "SEARCH_QUERY_BAD Invalid language";
    BadScore: "Invalid score", "SEARCH_PARSE_ARGS Invalid score";
    BadIndexAll: "Invalid argument for `INDEXALL`, use ENABLE/DISABLE",
        "SEARCH_PARSE_ARGS Invalid argument for `INDEXALL`, use ENABLE/DISABLE";
    BadPhonetic: "Matcher Format: <2 chars algorithm>:<2 chars language>. Support algorithms: double metaphone (dm). Supported languages: English (en), French (fr), Portuguese (pt) and Spanish (es)",
        "SEARCH_INVAL Matcher Format: <2 chars algorithm>:<2 chars language>. Support algorithms: double metaphone (dm). Supported languages: English (en), French (fr), Portuguese (pt) and Spanish (es)";
    BadSeparator: "Tag separator must be a single character. Got `{}`",
        "SEARCH_PARSE_ARGS Tag separator must be a single character. Got `{}`";
    BadAlgorithm: "Bad arguments for vector similarity algorithm: Unknown argument",
        "SEARCH_PARSE_ARGS Bad arguments for vector similarity algorithm: Could not convert argument to expected type";
    OddCount: "Bad number of arguments for vector similarity index: got {} but expected even number as algorithm parameters (should be submitted as named arguments)",
        "SEARCH_PARSE_ARGS Bad number of arguments for vector similarity index: got {} but expected even number as algorithm parameters (should be submitted as named arguments)";
    OddGraphCount: "Bad number of arguments for vector similarity index: got {} but expected even number (as algorithm parameters should be submitted as named arguments)",
        "SEARCH_PARSE_ARGS Bad arguments for vector similarity: not enough arguments";
    ShortGraph: "Expected {} parameters but got {}", "SEARCH_PARSE_ARGS Bad arguments for vector similarity: not enough arguments";
    Short: "Expected {} parameters but got {}", "SEARCH_PARSE_ARGS Expected {} parameters but got {}";
    AttributeMissing: "Missing mandatory parameter: cannot create {} index without specifying {} argument",
        "SEARCH_PARSE_ARGS Missing mandatory parameter: cannot create {} index without specifying {} argument";
    // 0: algorithm; 1, 2: the attribute's name, and RediSearch's older one; 3, 4: what is wrong with it, as
    // newer and older ones say.
    BadAttribute: "Bad arguments for vector similarity {0} index {2}: {4}",
        "SEARCH_PARSE_ARGS Bad arguments for vector similarity {0} index `{1}`: {3}";
    VectorLimit: "Vector index {} {} exceeded server limit ({} with the given parameters)",
        "SEARCH_LIMIT Vector index {} {} exceeded server limit ({} with the given parameters)";
    AttributeUnknown: "Bad arguments for algorithm {}: {}", "SEARCH_PARSE_ARGS Bad arguments for algorithm {}: {}";

    // Documents that cannot be indexed, as FT.INFO shows them.
    BlobSize: "Could not add vector with blob size {} (expected size {})",
        "SEARCH_VECTOR_BLOB_SIZE_MISMATCH Could not add vector with blob size {} (expected size {})";
    NotFinite: "Could not add vector with a component that is not a finite number",
        "Could not add vector with a component that is not a finite number";
    VectorLength: "Invalid vector length. Expected {}, got {}", "Invalid vector length. Expected {}, got {}";
    EmptyVector: "Empty array for vector field on JSON document", "Empty array for vector field on JSON document";
    WrongString: "Invalid JSON type: String type can represent only TEXT, TAG, GEO or GEOMETRY field",
        "Invalid JSON type: String type can represent only TEXT, TAG, GEO or GEOMETRY field";
    WrongNumber: "Invalid JSON type: Numeric type can represent only NUMERIC field",
        "Invalid JSON type: Numeric type can represent only NUMERIC field";
    WrongBoolean: "Invalid JSON type: Boolean type can be represent only TAG field",
        "Invalid JSON type: Boolean type can be represent only TAG field";
    WrongObject: "Invalid JSON type: Object type can represent only GEOMETRY fields",
        "Invalid JSON type: Object type can represent only GEOMETRY fields";
    WrongArray: "Invalid JSON type: Array type cannot represent GEOMETRY field",
        "Invalid JSON type: Array type cannot represent GEOMETRY field";
    WrongElement: "TEXT/TAG fields can only contain strings or nulls", "TEXT/TAG fields can only contain strings or nulls";
    TooMuchText: "The texts of a field have more than 512 MiB", "The texts of a field have more than 512 MiB";
    WrongNumericElement: "NUMERIC fields can only contain numeric or nulls",
        "NUMERIC fields can only contain numeric or nulls";
    WrongVectorElement: "Invalid vector element at index {}", "Invalid vector element at index {}";
    NotANumber: "Invalid numeric value: '{}'", "SEARCH_NUMERIC_VALUE_INVALID Invalid numeric value: '{}'";
    BadShape: "{}", "SEARCH_QUERY_BAD {}";
    ShapeQuery: "Error querying geoshape index: {}", "Error querying geoshape index: {}";
    NoPredicate: "Syntax error: Expecting a geoshape predicate at offset {}",
        "SEARCH_SYNTAX Syntax error: Expecting a geoshape predicate at offset {}";
    GeoFilterUnit: "Invalid GeoFilter unit", "Invalid GeoFilter unit";
    GeoFilterPlace: "Invalid GeoFilter lat/lon", "Invalid GeoFilter lat/lon";
    GeoFilterRadius: "Invalid GeoFilter radius", "Invalid GeoFilter radius";
    GeoFilterShort: "GEOFILTER requires 5 arguments", "SEARCH_PARSE_ARGS GEOFILTER requires 5 arguments";
    GeoFilterNoUnit: "Unknown distance unit {}", "SEARCH_PARSE_ARGS Unknown distance unit {}";
    BadGeo: "Invalid geo string", "SEARCH_GEO_FORMAT_BAD Invalid geo string";
    GeoOutside: "Invalid geo coordinates: {}, {}", "SEARCH_GEO_FORMAT_BAD Invalid geo coordinates: {}, {}";

    // Aggregations.
    NotForAggregate: "{} is not supported on FT.AGGREGATE", "SEARCH_PARSE_ARGS {} is not supported on FT.AGGREGATE";
    LateLoad: "LOAD cannot be applied after projectors or reducers",
        "SEARCH_PARSE_ARGS LOAD cannot be applied after projectors or reducers";
    LoadWithoutName: "LOAD path AS name - must be accompanied with NAME",
        "SEARCH_PARSE_ARGS LOAD path AS name - must be accompanied with NAME";
    AsNeedsName: "AS needs argument", "SEARCH_PARSE_ARGS AS needs argument";
    SecondSorting: "Multiple SORTBY steps are not allowed. Sort multiple fields in a single step",
        "SEARCH_PARSE_ARGS Multiple SORTBY steps are not allowed. Sort multiple fields in a single step";
    SortKeysOver: "Cannot sort by more than {} fields", "SEARCH_LIMIT_OVER Cannot sort by more than {} fields";
    SortDirection: "MISSING ASC or DESC after sort field ({})", "SEARCH_PARSE_ARGS MISSING ASC or DESC after sort field ({})";
    NoPropertyHere: "Property `{}` not loaded nor in pipeline",
        "SEARCH_PROP_NOT_FOUND Property `{}` not loaded nor in pipeline";
    NoGroupProperty: "No such property `{}`", "SEARCH_PROP_NOT_FOUND No such property `{}`";
    NoReducerProperty: "Property `{}` not present in document or pipeline",
        "SEARCH_PROP_NOT_FOUND Property `{}` not present in document or pipeline";
    NoReducer: "No such reducer: {}", "SEARCH_REDUCER_NOT_FOUND No such reducer: {}";
    CountArguments: "Count accepts 0 values only", "SEARCH_PARSE_ARGS Count accepts 0 values only";
    ReducerArguments: "Missing arguments for {}", "SEARCH_PARSE_ARGS Missing arguments for {}";
    ReducerArgument: "Unknown argument `{0}` at position {1} for {2}",
        "SEARCH_PARSE_ARGS Unknown argument `{0}` at position {1} for {2}";
    Percentage: "Percentage must be between 0.0 and 1.0", "SEARCH_PARSE_ARGS Percentage must be between 0.0 and 1.0";
    Resolution: "Invalid resolution", "SEARCH_PARSE_ARGS Invalid resolution";
    SampleSize: "Sample size too large", "SEARCH_PARSE_ARGS Sample size too large";
    GroupCombinations: "A row belongs to more than {} groups, because it is grouped by lists",
        "SEARCH_LIMIT_OVER A row belongs to more than {} groups, because it is grouped by lists";
    AggregateMemory: "The aggregation needs more memory than search-aggregate-memory allows ({} bytes): narrow the query, or group, sort or return less",
        "SEARCH_LIMIT_OVER The aggregation needs more memory than search-aggregate-memory allows ({} bytes): narrow the query, or group, sort or return less";
    HybridArguments: "{}", "SEARCH_PARSE_ARGS {}";
    NoPrefix: "Missing prefix: name requires '@' prefix, JSON path require '$' prefix, got: {0} in {1}",
        "SEARCH_PARSE_ARGS Missing prefix: name requires '@' prefix, JSON path require '$' prefix, got: {0} in {1}";
    NoVectorHere: "Vector expressions are not allowed in FT.HYBRID {}",
        "SEARCH_VECTOR_NOT_ALLOWED Vector expressions are not allowed in FT.HYBRID {}";
    NoWeightHere: "Weight attributes are not allowed in FT.HYBRID VSIM FILTER",
        "SEARCH_WEIGHT_NOT_ALLOWED Weight attributes are not allowed in FT.HYBRID VSIM FILTER";
    HybridSyntax: "{}", "SEARCH_SYNTAX {}";
    NoCursor: "Cursor not found", "SEARCH_CURSOR_NOT_FOUND Cursor not found";
    NoCursorToDelete: "Cursor does not exist", "SEARCH_CURSOR_NOT_FOUND Cursor does not exist";
    BadCursor: "Bad cursor ID", "SEARCH_PARSE_ARGS Bad cursor ID";
    BadCursorCount: "Bad value for COUNT", "SEARCH_PARSE_ARGS Bad value for COUNT";
    CursorSubcommand: "Unknown subcommand", "SEARCH_PARSE_ARGS Unknown subcommand";
    CursorsOver: "INDEX_CURSOR_LIMIT of {} has been reached for an index",
        "SEARCH_CURSOR_ALLOC_FAILED INDEX_CURSOR_LIMIT of {} has been reached for an index";
    CursorMemory: "Idle cursors need more memory than search-cursor-memory allows ({} bytes): read or delete some",
        "SEARCH_CURSOR_ALLOC_FAILED Idle cursors need more memory than search-cursor-memory allows ({} bytes): read or delete some";

    // Expressions.
    ExpressionSyntax: "Syntax error at offset {} near '{}'", "SEARCH_EXPR Syntax error at offset {} near '{}'";
    ExpressionSyntaxSymbol: "Syntax error at offset {} near '{}': Unknown symbol '{}'",
        "SEARCH_EXPR Syntax error at offset {} near '{}': Unknown symbol '{}'";
    UnknownSymbol: "Unknown symbol '{}'", "SEARCH_EXPR Unknown symbol '{}'";
    UnknownFunction: "Unknown function name '{}'", "SEARCH_EXPR Unknown function name '{}'";
    FunctionArguments: "Invalid arguments for function '{}'", "SEARCH_PARSE_ARGS Invalid arguments for function '{}'";
    FunctionCount: "Invalid number of arguments for {}", "SEARCH_PARSE_ARGS Invalid number of arguments for {}";
    FunctionType: "Invalid type ({}) for argument {} in function '{}'. VALIDATE_ARG__TYPE(v, {}) was false.",
        "SEARCH_PARSE_ARGS Invalid type ({}) for argument {} in function '{}'. VALIDATE_ARG__TYPE(v, {}) was false.";
    FunctionString: "Invalid type ({}) for argument {} in function '{}'. VALIDATE_ARG__STRING(v, 0) was false.",
        "SEARCH_PARSE_ARGS Invalid type ({}) for argument {} in function '{}'. VALIDATE_ARG__STRING(v, 0) was false.";
    SubstrString: "Invalid type for substr. Expected string", "SEARCH_PARSE_ARGS Invalid type for substr. Expected string";
    ToNumber: "to_number: cannot convert string '{}'", "SEARCH_PARSE_ARGS to_number: cannot convert string '{}'";
    FormatWithoutArguments: "Need at least one argument for format", "SEARCH_PARSE_ARGS Need at least one argument for format";
    FormatString: "Bad format string!", "SEARCH_PARSE_ARGS Bad format string!";
    FormatShort: "Not enough arguments for format", "SEARCH_PARSE_ARGS Not enough arguments for format";
    FormatSpecifier: "Unknown format specifier passed", "SEARCH_PARSE_ARGS Unknown format specifier passed";
    FormatLong: "format makes a text that is more than {} bytes longer than its arguments",
        "SEARCH_LIMIT_OVER format makes a text that is more than {} bytes longer than its arguments";
    PropertiesOver: "An aggregation is limited to {} properties", "SEARCH_LIMIT_OVER An aggregation is limited to {} properties";
    StepsOver: "An aggregation is limited to {} steps", "SEARCH_LIMIT_OVER An aggregation is limited to {} steps";
    GeoLong: "Geo string cannot be longer than 128 bytes", "SEARCH_PARSE_ARGS Geo string cannot be longer than 128 bytes";
    NotNumeric: "Could not convert value to a number", "SEARCH_NUMERIC_VALUE_INVALID Invalid numeric value";
    TextToNumber: "Error converting string '{}' to number", "SEARCH_NUMERIC_VALUE_INVALID Error converting string '{}' to number";
    NoPropertyValue: "{}: has no value, consider using EXISTS if applicable",
        "SEARCH_VALUE_NOT_FOUND Could not find the value for a parameter name, consider using EXISTS if applicable: {}";

    // FT.CONFIG.
    SettingUnknown: "Invalid option", "SEARCH_OPTION_INVALID No such option";
    SettingFixed: "{} is always {} in this server", "SEARCH_UNSUPPORTED {} is always {} in this server";
    SettingValue: "Invalid {} value", "SEARCH_VALUE_BAD Invalid {} value";
    SettingNumber: "{}", "SEARCH_PARSE_ARGS {}";
}

/// What can be wrong with the value of an option.
pub const NO_VALUE: &str = "Expected an argument, but none provided";
pub const CONVERSION: &str = "Could not convert argument to expected type";
pub const BOUNDS: &str = "Value is outside acceptable bounds";
pub const UNKNOWN: &str = "Unknown argument";

impl From<CommandError> for SearchError {
    fn from(error: CommandError) -> SearchError {
        SearchError::Engine(error)
    }
}

impl SearchError {
    pub fn in_style(&self, style: ErrorStyle) -> CommandError {
        match self {
            SearchError::Listed(kind, parts) if parts.is_empty() => {
                CommandError::of(kind.texts()[style as usize])
            }
            SearchError::Listed(kind, parts) => {
                CommandError::new(filled(kind.texts()[style as usize], parts))
            }
            SearchError::Engine(error) => error.clone(),
        }
    }
}

/// The text with its parts in their places.
fn filled(text: &str, parts: &[String]) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut next = 0;
    while let Some((before, after)) = rest.split_once('{') {
        let (number, after) = after.split_once('}').expect("each brace is closed");
        let place = if number.is_empty() { next } else { number.parse().expect("a place is a number") };
        next += 1;
        out.push_str(before);
        out.push_str(&parts[place]);
        rest = after;
    }
    out.push_str(rest);
    out
}

impl Kind {
    pub fn error(self) -> SearchError {
        SearchError::Listed(self, Vec::new())
    }

    /// With a client's bytes filled in.
    pub fn of(self, bytes: &[u8]) -> SearchError {
        SearchError::Listed(self, vec![text(bytes)])
    }

    pub fn with<'p, const N: usize>(self, parts: [Cow<'p, str>; N]) -> SearchError {
        SearchError::Listed(self, parts.into_iter().map(Cow::into_owned).collect())
    }
}

/// A client's bytes as they are shown in an error.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned()
}

pub fn query_too_large(size_max: usize) -> SearchError {
    Kind::QueryTooLarge.with([size_max.to_string().into()])
}

/// An error about the query's text: which, where, and at what.
pub fn at(kind: Kind, offset: usize, near: &[u8]) -> SearchError {
    kind.with([offset.to_string().into(), text(near).into()])
}

pub fn wrong_field(wanted: &str, offset: usize, name: &[u8]) -> SearchError {
    Kind::WrongField.with([wanted.into(), offset.to_string().into(), text(name).into()])
}

pub fn bad_arguments(option: &str, cause: &str) -> SearchError {
    Kind::BadArguments.with([option.into(), cause.into()])
}

pub fn vector_query(cause: &str) -> SearchError {
    Kind::VectorQuery.with([cause.into()])
}

pub fn unsupported(what: &str) -> SearchError {
    Kind::Unsupported.with([what.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_can_be_filled_in() {
        let parts: Vec<String> = (0..5).map(|part| format!("<{part}>")).collect();
        for kind in Kind::ALL {
            for text in kind.texts() {
                assert!(!filled(text, &parts).contains(['{', '}']), "{text}");
            }
            let [plain, coded] = kind.texts();
            assert!(!plain.starts_with("SEARCH_"), "{plain}");
            assert!(coded.starts_with("SEARCH_") || coded.starts_with(char::is_uppercase), "{coded}");
        }
    }

    #[test]
    fn a_kind_has_a_text_in_either_style() {
        let error = Kind::NoIndexToTell.of(b"i");
        assert_eq!(error.in_style(ErrorStyle::Plain), CommandError::of("Unknown index name"));
        assert_eq!(
            error.in_style(ErrorStyle::Codes),
            CommandError::of("SEARCH_INDEX_NOT_FOUND Index not found: i")
        );
        let error = at(Kind::NeedsIndexMissing, 10, b"c");
        let plain = "'ismissing' requires field 'c' to be defined with 'INDEXMISSING'";
        assert_eq!(error.in_style(ErrorStyle::Plain), CommandError::of(plain));
    }
}

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn value() -> Value {
    json!({
        "ID": "0123456789ab",
        "Names": "web,front",
        "Evil": "a\u{1b}[31mb\tc",
        "Count": 3,
        "Half": 0.5,
        "Up": true,
        "Nothing": null,
        "Empty": "",
        "State": { "Status": "running", "ExitCode": 0 },
        "Labels": { "com.example.role": "db" },
        "Mounts": [{ "Source": "/a" }, { "Source": "/b" }],
        "Ports": { "80/tcp": [{ "HostPort": "8080" }], "90/udp": null },
        "Args": ["one", "two words"],
    })
}

#[track_caller]
fn gives(template: &str, expected: &str) {
    let made = Template::parse(template).and_then(|it| it.line(&value()));
    assert_eq!(made.as_deref(), Ok(expected), "{template}");
}

#[track_caller]
fn fails(template: &str, expected: &str) {
    let made = Template::parse(template).and_then(|it| it.line(&value()));
    let error = made.expect_err(template).to_string();
    assert!(error.contains(expected), "{template}: {error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn fields_and_what_they_look_like() {
    gives("{{.ID}} {{ .State.Status }}", "0123456789ab running");
    gives(
        "{{.Count}} {{.Half}} {{.Up}} {{.Nothing}}",
        "3 0.5 true <nil>",
    );
    gives(
        "{{.Args}} {{.State}}",
        "[one two words] map[ExitCode:0 Status:running]",
    );
    gives("{{(index .Mounts 0).Source}}", "/a");
    gives(
        "{{$.ID}}{{with .State}}{{.Status}}{{$.Count}}{{end}}",
        "0123456789abrunning3",
    );
    gives("{{.Labels.absent}}", "<no value>");
    gives("no action at all", "no action at all");
}

#[test]
fn json() {
    gives("{{json .State}}", r#"{"ExitCode":0,"Status":"running"}"#);
    gives("{{json .ID}} {{.Nothing | json}}", r#""0123456789ab" null"#);
    gives("{{json .Evil}}", r#""a\u001b[31mb\tc""#);
    let whole = Template::parse("json").unwrap().line(&value()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), value());
    let other = Template::parse("json").unwrap();
    assert_eq!(
        other.line(&json!("\u{7f}\u{9b}1m")).unwrap(),
        r#""\u007f\u009b1m""#
    );
}

#[test]
fn what_comes_from_elsewhere_cannot_pose_as_the_templates_own() {
    gives("{{.Evil}}\t|\\t|{{\"\\t\"}}", "a\\u{1b}[31mb\\tc\t|\t|\t");
    gives(
        "{{printf \"%s\\t%s\" .Evil .Count}}",
        "a\\u{1b}[31mb\\tc\t3",
    );
    gives("{{upper .Evil}}", "A\\u{1b}[31MB\\tC");
    gives(
        "{{range split .Evil \"\\t\"}}<{{.}}>{{end}}",
        "<a\\u{1b}[31mb><c>",
    );
    gives("{{join (split .Evil \"\\t\") \"\\n\"}}", "a\\u{1b}[31mb\nc");
    gives("{{println .Evil}}", "a\\u{1b}[31mb\\tc\n");
}

#[test]
fn conditions_and_ranges() {
    gives("{{if .Empty}}a{{else if .Up}}b{{else}}c{{end}}", "b");
    gives(
        "{{if and .Up (eq .State.Status \"running\")}}yes{{end}}",
        "yes",
    );
    gives("{{if or .Empty .Nothing}}yes{{else}}no{{end}}", "no");
    gives("{{and .Nothing .Nothing.Deeper}}", "<nil>");
    gives("{{range .Mounts}}{{.Source}};{{end}}", "/a;/b;");
    gives("{{range .Nothing}}x{{else}}none{{end}}", "none");
    gives(
        "{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$m.Source}}{{end}}",
        "/a, /b",
    );
    gives(
        "{{range $port, $to := .Ports}}{{$port}}={{len $to}} {{end}}",
        "80/tcp=1 90/udp=0 ",
    );
    gives("{{$x := .Count}}{{if true}}{{$x = 4}}{{end}}{{$x}}", "4");
    gives("{{if $x := .ID}}{{$x}}{{end}}", "0123456789ab");
    gives("{{with .Empty}}a{{else}}b{{end}}", "b");
}

#[test]
fn functions() {
    gives(
        "{{index .Labels \"com.example.role\"}}|{{index .Labels \"no\"}}|",
        "db||",
    );
    gives("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080");
    gives("{{join .Args \",\"}}", "one,two words");
    gives(
        "{{lower \"AB\"}}{{upper \"ab\"}}{{title \"two words\"}}",
        "abABTwo Words",
    );
    gives("{{.ID | upper | printf \"%.4s\"}}", "0123");
    gives("{{len .Args}} {{len .ID}}", "2 12");
    gives(
        "{{eq .Count 1 3}} {{ne .Count 3}} {{lt .Half 1}} {{ge \"b\" \"a\"}}",
        "true false true true",
    );
    gives(
        "{{slice .ID 0 4}} {{slice .Args 1}} {{truncate .ID 3}}",
        "0123 [two words] 012",
    );
    gives(
        "{{printf \"%-4s|%4d|%04d|%q|%.1f|%%\" \"a\" 5 -5 \"b\" .Half}}",
        "a   |   5|-005|\"b\"|0.5|%",
    );
    gives(
        "{{pad .ID 1 2}}|{{pad .Empty 1 2}}|{{not .Up}}",
        " 0123456789ab  ||false",
    );
    gives("{{print 1 2 \"a\" 3}}", "1 2a3");
}

#[test]
fn spaces_comments_and_quotes() {
    gives("a  {{- /* b */ -}}  c", "ac");
    gives("a {{- .Count -}} c {{3 -}} d", "a3c 3d");
    gives("{{`raw \\n`}}{{\"\\u00fc\\x41\\\"\"}}", "raw \\nüA\"");
    gives("a\\nb\\tc", "a\nb\tc");
    gives("{{-3}}", "-3");
}

#[test]
fn a_mistake_is_one_line_that_names_the_place() {
    let error = Template::parse("{{.ID}} {{.State.Nope}}").unwrap();
    assert_eq!(
        error.line(&value()).unwrap_err().to_string(),
        "invalid --format at character 17 ('.Nope}}'): there is no field Nope; there are ExitCode, Status"
    );
    fails("ü{{", "character 2 ('{{'): '{{' lacks its '}}'");
    fails(
        "{{if .Up}}x",
        "character 3 ('if .Up}}x'): this block lacks its {{end}}",
    );
    fails("x{{end}}", "character 4");
    fails("{{else}}", "no block is open");
    fails("{{if .Up}}{{else}}{{else}}{{end}}", "already was an else");
    fails("{{.ID | nope}}", "no function 'nope'");
    fails("{{\"abc}}", "lacks its closing");
    fails("{{(.ID}}", "'(' lacks its ')'");
    fails("{{}}", "missing");
    fails("{{.ID |}}", "missing");
    fails("{{$x}}", "no variable $x");
    fails("{{template \"x\"}}", "not supported");
    fails("{{.ID.Deeper}}", "a plain value has no field Deeper");
    fails(
        "{{.Nothing.Deeper}}",
        "nothing that could have a field Deeper",
    );
    fails("{{.ID 3}}", "takes no arguments");
    fails("{{index .Args 7}}", "out of a list of 2");
    fails("{{eq .Count \"3\"}}", "cannot compare a number with a text");
    fails("{{range .Count}}{{end}}", "lists and maps only");
    fails("{{join .ID}}", "cannot be called with 1 arguments");
    fails("{{printf \"%99999999d\" 3}}", "at most 4096 columns");
    fails("{{0x}}", "not a number");
    fails("{{1e999}}", "not a number");
    fails("{{?}}", "'?' has no meaning here");
}

#[test]
fn depth_length_and_work_are_bounded() {
    let deep = |n: usize| format!("{{{{{}1{}}}}}", "(".repeat(n), ")".repeat(n));
    gives(&deep(60), "1");
    fails(&deep(20_000), "nested too deep");
    fails(&"{{if 1}}".repeat(5000), "nested too deep");
    let chain = format!("{{{{if 1}}}}{}{{{{end}}}}", "{{else if 1}}".repeat(4000));
    fails(&chain, "nested too deep");
    fails(&"x".repeat(MAX_TEMPLATE + 1), "too long");
    let doubling = "{{$x := .ID}}".to_owned() + &"{{$x = printf \"%s%s\" $x $x}}".repeat(60);
    fails(&doubling, "more than can be printed");
    let loops = "{{range $.Args}}".repeat(40) + &"{{end}}".repeat(40);
    fails(&loops, "more than can be printed");
}

const HEADS: [(&str, &str); 3] = [
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
];

fn listing(format: Option<&str>) -> Result<String, FormatError> {
    let mut listing = Listing::new(format, "{{.ID}}\\t{{.Names}}", &HEADS)?;
    let labels = BTreeMap::from([
        ("com.example.the-role".to_owned(), "db".to_owned()),
        ("z".to_owned(), "1".to_owned()),
    ]);
    listing.labelled(
        json!({ "ID": "0123456789abcdef", "Names": "a\tb" }),
        &labels,
    )?;
    listing.labelled(json!({ "ID": "1", "Names": "c" }), &BTreeMap::new())?;
    Ok(listing.render())
}

#[test]
fn listings_have_dockers_forms() {
    let table = "CONTAINER ID       NAMES\n0123456789abcdef   a\\tb\n1                  c";
    for format in [None, Some(""), Some("table")] {
        assert_eq!(listing(format).unwrap(), table);
    }
    assert_eq!(
        listing(Some("table {{.Names}}\\t{{.ID | lower}}")).unwrap(),
        "NAMES     CONTAINER ID\na\\tb      0123456789abcdef\nc         1"
    );
    assert_eq!(
        listing(Some("json")).unwrap(),
        "{\"ID\":\"0123456789abcdef\",\"Labels\":\"com.example.the-role=db,z=1\",\"Names\":\"a\\tb\"}\n{\"ID\":\"1\",\"Labels\":\"\",\"Names\":\"c\"}"
    );
    assert_eq!(listing(Some("{{.ID}}")).unwrap(), "0123456789abcdef\n1");
    assert_eq!(
        listing(Some("tables {{.ID}}")).unwrap(),
        "tables 0123456789abcdef\ntables 1"
    );
}

#[test]
fn labels_are_a_text_and_a_map() {
    assert_eq!(
        listing(Some(
            "{{.Labels}} {{.Label \"z\"}} {{index .Labels \"z\"}} {{len .Labels}}"
        ))
        .unwrap(),
        "com.example.the-role=db,z=1 1 1 2\n   0"
    );
    assert_eq!(
        listing(Some(
            "table {{.ID}}\\t{{.Label \"com.example.the-role\"}}\\t{{index .Labels \"z\"}}"
        ))
        .unwrap(),
        "CONTAINER ID       the role   z\n0123456789abcdef   db         1\n1"
    );
}

#[test]
fn a_mistake_in_a_table_shows_without_rows() {
    let error = Listing::new(Some("table {{.Nope}}"), "{{.ID}}", &HEADS).unwrap_err();
    assert!(
        error.to_string().contains("there are ID, Labels, Names"),
        "{error}"
    );
}

/// Pieces of templates, right and wrong, in any order.
fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        ".",
        ".ID",
        ".State",
        ".Status",
        ".Args",
        ".Labels",
        "$",
        "$x",
        ":=",
        "=",
        ",",
        "|",
        "(",
        ")",
        "if",
        "else",
        "end",
        "range",
        "with",
        "json",
        "index",
        "len",
        "printf",
        "split",
        "join",
        "slice",
        "and",
        "or",
        "not",
        "eq",
        "lt",
        "pad",
        "truncate",
        "title",
        "\"%s %-5d\"",
        "\"",
        "`",
        "\\",
        "\\t",
        "3",
        "-1",
        "1.5",
        "nil",
        "true",
        "/*",
        "*/",
        "ü",
        "\n",
        "\u{1b}",
        "{{range .Args}}",
        "{{if .Up}}",
        "{{else}}",
        "{{end}}",
        "{{.ID | json}}",
        "{{range $i, $x := .Mounts}}",
        "{{with .State}}",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

/// What is well-formed more often than not.
fn likely() -> impl Strategy<Value = String> {
    let operand = prop::sample::select(vec![
        ".",
        ".ID",
        ".Args",
        ".Labels",
        ".State.Status",
        ".Count",
        ".Nothing",
        ".Ports",
        "\"x\"",
        "1",
        "0",
        "-7",
        "$",
        "(len .Args)",
        "(split .Names \",\")",
    ]);
    let function = prop::sample::select(functions::names().to_vec());
    let call = (function, prop::collection::vec(operand.clone(), 0..4))
        .prop_map(|(name, arguments)| format!("{name} {}", arguments.join(" ")));
    let action = prop_oneof![
        operand.prop_map(str::to_owned),
        call.clone(),
        (call.clone(), call).prop_map(|(a, b)| format!("{a} | {b}"))
    ];
    let leaf = action.prop_map(|it| format!("{{{{{it}}}}}"));
    leaf.prop_recursive(5, 32, 4, |inner| {
        let open = prop::sample::select(vec![
            "if .Up",
            "range .Args",
            "with .State",
            "range $k, $v := .Ports",
        ]);
        (open, prop::collection::vec(inner, 0..4)).prop_map(|(open, body)| {
            format!("{{{{{open}}}}}{}{{{{else}}}}-{{{{end}}}}", body.concat())
        })
    })
}

const ESCAPE: char = '\u{1b}';

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_template_panics(source in prop_oneof![fragments(), likely(), any::<String>()]) {
        let shown = match Template::parse(&source).and_then(|it| it.line(&value())) {
            Ok(line) => {
                // Control characters come from the template or from nowhere.
                let made_up = line.contains(ESCAPE) && !source.contains(ESCAPE);
                prop_assert!(!made_up);
                continue_with(&source);
                line
            }
            Err(error) => error.to_string(),
        };
        prop_assert!(shown.len() <= 64 << 20);
    }
}

/// The same template as a listing's.
fn continue_with(source: &str) {
    // Whether it fits those fields is not the point.
    drop(listing(Some(source)));
    drop(listing(Some(&format!("table {source}"))));
}

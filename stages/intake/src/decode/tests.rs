//! Decoders: whole requests against an independent encoder, every prefix, single flipped bits.

use prost::Message;

use super::*;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

fn label(name: &[u8], value: &[u8]) -> Label {
    Label { name: name.to_vec(), value: value.to_vec() }
}

fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    TimeSeries {
        labels: labels.iter().map(|(name, value)| label(name.as_bytes(), value.as_bytes())).collect(),
        samples: samples.iter().map(|(timestamp, value)| Sample { value: *value, timestamp: *timestamp }).collect(),
        ..TimeSeries::default()
    }
}

/// Items as text: easy to compare, values by their bits.
fn items(protocol: Protocol, body: &[u8]) -> Result<Vec<String>, Refusal> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut out = Vec::new();
    decode(protocol, body, 1_000, &mut DecodeScratch::default(), &mut |item| {
        out.push(match item {
            Item::Series(batch) => {
                let tag =
                    |tag: &TagRef<'_>| if tag.kind as u8 == 0 { text(tag.key) } else { format!("{}={}", text(tag.key), text(tag.value)) };
                let tags: Vec<String> = batch.tags.iter().map(tag).collect();
                let points: Vec<_> = batch.timestamps_ms.iter().zip(batch.values).map(|(t, v)| format!("{t}:{:x}", v.to_bits())).collect();
                let (kind, unit, interval_s) = (batch.meta.kind as u8, text(batch.meta.unit), batch.meta.interval_s);
                format!("{}{{{}}} {} [{kind} {unit} {interval_s}]", text(batch.metric), tags.join(","), points.join(" "))
            }
            Item::Metadata { metric, meta } => format!("meta {} {:?} {} {}", text(metric), meta.kind, text(&meta.unit), text(&meta.help)),
            Item::Refused { reason, points, metric } => format!("refused {} {points} {}", reason.describe().1, text(metric)),
        });
        Ok(())
    })?;
    Ok(out)
}

fn remote_write(timeseries: Vec<TimeSeries>) -> Vec<String> {
    items(Protocol::RemoteWrite, &WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec()).unwrap()
}

fn datadog(json: &str) -> Vec<String> {
    items(Protocol::Datadog, json.as_bytes()).unwrap()
}

#[test]
fn remote_write_as_prost_writes_it() {
    let nan = f64::from_bits(0x7ff0_0000_0000_0002);
    let got = remote_write(vec![
        series(&[("__name__", "up"), ("host", "a")], &[(1_763_726_400_123, 1.5), (0, 0.0), (-1, -1.0), (i64::MAX, nan)]),
        series(&[("Z", "z"), ("__name__", "m"), ("empty", ""), ("ü", "ö")], &[(5, f64::INFINITY)]),
        series(&[("z", "1"), ("a", "2"), ("__name__", "unsorted")], &[(5, 1.0)]),
        series(&[("__name__", "no_points")], &[]),
    ]);
    assert_eq!(
        got,
        [
            "up{host=a} 1763726400123:3ff8000000000000 0:0 -1:bff0000000000000 9223372036854775807:7ff0000000000002 [0  0]",
            "m{Z=z,ü=ö} 5:7ff0000000000000 [0  0]",
            "unsorted{a=2,z=1} 5:3ff0000000000000 [0  0]",
        ]
    );
}

#[test]
fn remote_write_bad_series_stand_alone() {
    let bytes = TimeSeries { labels: vec![label(b"__name__", b"m"), label(b"a", b"\xff")], ..series(&[], &[(1, 1.0)]) };
    let many: Vec<(String, String)> = (0..500).map(|i| (format!("l{i:03}"), "v".to_owned())).collect();
    let mut many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    many.insert(0, ("__name__", "many"));
    let mut mixed = series(&[("__name__", "h")], &[(1, 1.0)]);
    mixed.exemplars = vec![Sample::default(); 2];
    mixed.histograms = vec![Sample::default(); 3];
    let got = remote_write(vec![
        series(&[("a", "b")], &[(1, 1.0), (2, 1.0)]),
        series(&[("__name__", "d"), ("a", "b"), ("a", "c")], &[(1, 1.0)]),
        series(&[("", "v"), ("__name__", "e")], &[(1, 1.0)]),
        bytes,
        series(&many, &[(1, 1.0)]),
        mixed,
    ]);
    assert_eq!(
        got,
        [
            "refused no_name 2 ",
            "refused duplicate_label 1 d",
            "refused empty_label 1 e",
            "refused not_utf8 1 m",
            "refused too_many_tags 1 many",
            "refused exemplar 2 h",
            "refused native_histogram 3 h",
            "h{} 1:3ff0000000000000 [0  0]",
        ]
    );
}

#[test]
fn remote_write_metadata() {
    let entry = |kind, name: &str| Metadata { kind, name: name.to_owned(), help: "what it is".to_owned(), unit: "s".to_owned() };
    let request = WriteRequest { timeseries: Vec::new(), metadata: vec![entry(1, "a"), entry(5, "b"), entry(77, "c"), entry(1, "")] };
    let got = items(Protocol::RemoteWrite, &request.encode_to_vec()).unwrap();
    assert_eq!(got, ["meta a Counter s what it is", "meta b Summary s what it is", "meta c Unknown s what it is", "refused metadata 1 "]);
}

#[test]
fn remote_write_prefixes_and_flips_never_panic() {
    let body = WriteRequest {
        timeseries: vec![series(&[("__name__", "up"), ("host", "a")], &[(1_763_726_400_123, 1.5); 3])],
        metadata: Vec::new(),
    };
    let body = body.encode_to_vec();
    for cut in 1..body.len() {
        assert_eq!(items(Protocol::RemoteWrite, &body[..cut]).unwrap_err().cause, Cause::Undecodable, "cut at {cut}");
    }
    for bit in 0..body.len() * 8 {
        let mut flipped = body.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = items(Protocol::RemoteWrite, &flipped);
    }
    // Unknown fields of every wire type are passed over, groups and field 0 are not protobuf 3.
    let longer = [&body[..], &[0x78, 1, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0x7a, 1, 0, 0x7d, 0, 0, 0, 0]].concat();
    assert_eq!(items(Protocol::RemoteWrite, &longer).unwrap().len(), 1);
    for bad in [&[0x0b][..], &[0x00, 0x00], &[0x08, 0x01], &[0xff; 11]] {
        assert!(items(Protocol::RemoteWrite, bad).is_err(), "{bad:?}");
    }
}

#[test]
fn the_cap_on_points_is_exact() {
    let body = |count| WriteRequest { timeseries: vec![series(&[("__name__", "m")], &vec![(1, 1.0); count]); 2], metadata: Vec::new() };
    assert!(items(Protocol::RemoteWrite, &body(500).encode_to_vec()).is_ok());
    assert_eq!(items(Protocol::RemoteWrite, &body(501).encode_to_vec()).unwrap_err().cause, Cause::Points);
    let json = |count| format!(r#"{{"series":[{{"metric":"m","points":[{}]}}]}}"#, vec![r#"{"timestamp":1,"value":1}"#; count].join(","));
    assert!(items(Protocol::Datadog, json(1_000).as_bytes()).is_ok());
    assert_eq!(items(Protocol::Datadog, json(1_001).as_bytes()).unwrap_err().cause, Cause::Points);
}

#[test]
fn datadog_tags_resources_and_metadata() {
    let got = datadog(
        r#"{"series":[{"metric":"system.cpu","type":2,"interval":10,"unit":"percent","source_type_name":"x","metadata":{"origin":{}},
            "tags":["env:prod","canary","url:http://x:80","env:prod","","k:","\u0061:b"],
            "resources":[{"type":"host","name":"h1"},{"type":"device","name":"sda"},{"name":"lost"}],
            "points":[{"timestamp":1763726400,"value":0.1},{"timestamp":1763726400.123,"value":-1e-3}]}]}"#,
    );
    assert_eq!(
        got,
        [
            "system.cpu{a=b,canary,device=sda,env=prod,host=h1,k=,url=http://x:80} 1763726400000:3fb999999999999a 1763726400123:bf50624dd2f1a9fc [3 percent 10]"
        ]
    );
}

#[test]
fn datadog_bad_series_and_points_stand_alone() {
    let got = datadog(
        r#"{"series":[7,{"metric":"a","points":"x"},{"points":[{"timestamp":1,"value":1}]},
            {"metric":"m","points":[5,{"timestamp":"x","value":1},[1,1],{"value":1},{"timestamp":1,"value":null},{"timestamp":1,"value":1e999},
            {"timestamp":1,"value":"NaN"},{"timestamp":1,"value":1}]}],"more":[]}"#,
    );
    let expected = [
        "refused malformed 1 ",
        "refused malformed 1 a",
        "refused no_name 1 ",
        "refused malformed 2 m",
        "refused bad_timestamp 2 m",
        "refused bad_value 3 m",
        "m{} 1000:3ff0000000000000 [0  0]",
    ];
    assert_eq!(got, expected);
    assert_eq!(datadog(r#"{"series":[]}"#), [""; 0]);
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"series":[{]}"#,
        r#"{"series":[]} x"#,
        "\u{feff}{}",
        r#"{"series":[{"metric":"m","points":[{"timestamp":x}]}]}"#,
    ] {
        assert_eq!(items(Protocol::Datadog, bad.as_bytes()).unwrap_err().cause, Cause::Undecodable, "{bad}");
    }
    assert!(items(Protocol::Datadog, b"{\"series\":[{\"metric\":\"\xff\"}]}").is_err());
    assert!(items(Protocol::Datadog, "[".repeat(100_000).as_bytes()).is_err(), "depth");
}

#[test]
fn datadog_series_of_an_odd_shape_are_counted_by_point_and_named() {
    let points = r#""points":[{"timestamp":1,"value":1},{"timestamp":2,"value":1}]"#;
    for odd in [r#""tags":"a:b""#, r#""tags":["a:b",null]"#, r#""tags":[1]"#, r#""resources":[7]"#, r#""resources":[["host","h"]]"#] {
        let got = datadog(&format!(r#"{{"series":[{{"metric":"m",{odd},{points}}}]}}"#));
        assert_eq!(got, ["refused malformed 2 m"], "{odd}");
    }
    assert_eq!(datadog(&format!(r#"{{"series":[{{"metric":5,{points}}}]}}"#)), ["refused malformed 2 "]);
    assert_eq!(datadog(r#"{"series":[["m",[{"timestamp":1,"value":1}]]]}"#), ["refused malformed 1 "], "no array in an object's place");
    for fine in [r#""tags":null"#, r#""resources":[{"type":"host","name":null}]"#, r#""unit":5"#, r#""type":"x""#, r#""interval":"x""#] {
        let got = datadog(&format!(r#"{{"series":[{{"metric":"m",{fine},{points}}}]}}"#));
        assert_eq!(got, ["m{} 1000:3ff0000000000000 2000:3ff0000000000000 [0  0]"], "{fine}");
    }
    assert_eq!(items(Protocol::Datadog, br#"[[{"metric":"m"}]]"#).unwrap_err().cause, Cause::Undecodable);
}

#[test]
fn decimal_seconds_are_floored_exactly() {
    let cases = [
        ("0", 0),
        ("1763726400.123", 1_763_726_400_123),
        ("1763726400.1239999999999999999999999999999999", 1_763_726_400_123),
        ("1.7637264e9", 1_763_726_400_000),
        ("17637264001e-1", 1_763_726_400_100),
        ("-1", -1_000),
        ("-0.0001", -1),
        ("-0.001", -1),
        ("0.0009", 0),
        ("7258118400", 7_258_118_400_000),
        ("1e400", i64::MAX),
        ("-1e400", i64::MIN),
        ("0e400", 0),
        ("99999999999999999999999999999999999999999999", i64::MAX),
    ];
    for (text, expected) in cases {
        assert_eq!(datadog::milliseconds(text), Some(expected), "{text}");
    }
    for bad in ["", "-", "x", "\"1\"", "null", "1.2.3", "1e", "1ex", ".5", "+1", "1 ", "NaN", "0x10"] {
        assert_eq!(datadog::milliseconds(bad), None, "{bad}");
    }
}

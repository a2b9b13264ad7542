package logpattern

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// trail and people are the events of the User Guide's examples.
const (
	trail = `{"eventType": "UpdateTrail", "sourceIPAddress": "111.111.111.111", "arrayKey": ["value", "another value"],
		"objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}], "SomeObject": null, "ThisFlag": true, "Off": false}`
	people = `{"user": {"id": 1, "email": "John.Stiles@example.com"},
		"users": [{"id": 2, "email": "John.Doe@example.com"}, {"id": 3, "email": "Jane.Doe@example.com"}],
		"actions": ["GET", "PUT", "DELETE"], "coordinates": [[0, 1, 2], [4, 5, 6], [7, 8, 9]]}`
	numbers = `{"bandwidth": 80, "latency": 49.5, "errorCode": 400, "number": [0.001, 1000], "text": "50", "big": 12345678901234567890,
		"a.b": 7, "a b": {"c": 8}, "neg": -5}`
	apache = `127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534`
)

// The messages of the guide's examples for terms.
const (
	e400 = "[ERROR 400] BAD REQUEST"
	e401 = "[ERROR 401] UNAUTHORIZED REQUEST"
	e419 = "[ERROR 419] MISSING ARGUMENTS"
	e420 = "[ERROR 420] INVALID ARGUMENTS"
	e500 = "[ERROR 500] INTERNAL SERVER ERROR"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern  string
		yes, not []string
	}{
		// Terms.
		{"", []string{"", "x", e400}, nil},
		{"   ", []string{"", "x"}, nil},
		{`" "`, []string{"", "x", "a b"}, nil},
		{"ERROR", []string{e400, e419, "Exiting with ERRORCODE: -1"}, []string{"error", ""}},
		{"ERROR ARGUMENTS", []string{e419, e420}, []string{e400, e401}},
		{"?ERROR ?ARGUMENTS", []string{e400, "ARGUMENTS"}, []string{"WARN", ""}},
		{"?ERROR ?ARGUMENTS REQUEST", []string{"[INFO] REQUEST FAILED", "[WARN] UNAUTHORIZED REQUEST", e400}, []string{e419}},
		{"?ERROR -ARGUMENTS", []string{e400, "WARN"}, []string{e419}},
		{`"INTERNAL SERVER ERROR"`, []string{e500}, []string{e400, "INTERNAL  SERVER ERROR"}},
		{"ERROR -ARGUMENTS", []string{e400, e401}, []string{e419, e420, "REQUEST"}},
		{`"ERROR" - "Exiting"`, []string{e400}, []string{"Exiting with ERRORCODE: -1"}},
		{`-"a b"`, []string{"", "ab"}, []string{"xa bx"}},
		{`"say \"hi\" \\ \n"`, []string{`say "hi" \ \n`}, []string{"say hi"}},
		{`"2b78b174-86ec-499e"`, []string{"RequestId: 2b78b174-86ec-499e"}, nil},
		{"ERROR\tARGUMENTS\n", []string{e419}, []string{e400}},
		{`"öäü 日本"`, []string{"xöäü 日本x"}, []string{"oau"}},
		// Regular expressions alone.
		{"%AUTHORIZED%", []string{e401, "[SUCCESS 200] AUTHORIZED REQUEST"}, []string{e400}},
		{"%^[hc]at%", []string{"hat", "cat in"}, []string{"that"}},
		{"%[hc]at$%", []string{"hat", "a cat"}, []string{"hats"}},
		{"%colou?r%", []string{"color", "colour"}, []string{"colr"}},
		{"%10\\.10\\.0\\.1%", []string{"10.10.0.1"}, []string{"10x10.0.1"}},
		{"%gra|ey%", []string{"gra", "hey"}, []string{"gr"}},
		{"%a{3,5}%", []string{"aaa"}, []string{"aa"}},
		{"%ab+c%", []string{"abbc"}, []string{"ac"}},
		{`%\d\D\s\S\w\W%`, []string{"1a ab!"}, []string{"aaaaaa"}},
		{`%\x3B%`, []string{"a;b"}, []string{"ab"}},
		{`%100\%%`, []string{"100%"}, []string{"100"}},
		{"ERROR -%4[01]\\d%", []string{e420 + "x"[:0], e500}, []string{e400, e419}},
		// Fields.
		{"[]", []string{"", "a b c"}, nil},
		{"[w1=ERROR, w2]", []string{"ERROR message", "ERROR WARN message", "ERROR\tx"}, []string{"ERROR", "WARN message", "x ERROR y"}},
		{"[w1=ERROR || W1=WARNING, w2]", []string{"ERROR m", "WARNING m m"}, []string{"INFO m"}},
		{"[w1!=ERROR && w1!=WARNING, w2]", []string{"INFO m"}, []string{"ERROR m", "WARNING m"}},
		{"[w1=!ERROR&&w1=!WARN, w2]", []string{"INFO m"}, []string{"ERROR m", "WARN m"}},
		{"[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes]", []string{apache}, []string{strings.Replace(apache, " 404 ", " 500 ", 1)}},
		{"[..., request =*.html*, status_code = 4*, bytes]", []string{apache}, []string{apache + " more"}},
		{"[ip, user, ..., status_code, bytes > 1000]", []string{apache}, []string{strings.Replace(apache, "1534", "999", 1)}},
		{"[ip, user, ...]", []string{apache, "a b"}, []string{"a"}},
		{"[..., status_code = 404 || status_code = 410, bytes]", []string{apache}, []string{strings.Replace(apache, " 404 ", " 411 ", 1)}},
		{"[ip, user, username, timestamp, request, status_code = 4* && status_code != 403, bytes]", []string{apache}, []string{strings.Replace(apache, " 404 ", " 403 ", 1)}},
		{"[ip=%127\\.0\\.0\\.[1-9]%, user, ...]", []string{apache}, []string{"10.0.0.1 a b"}},
		{`[timestamp=*Z, request_id="*-*", event]`, []string{"2016-01-01T00:00:00.000Z\ta-b\tINFO\thello world"}, []string{"2016 a-b x", "1Z ab x"}},
		{"[..., level=ERROR, ...]", []string{"a b ERROR c", "ERROR"}, []string{"a b c", ""}},
		{"[a=1, ..., b=2, c=3, ..., d=4]", []string{"1 2 3 4", "1 2 2 3 x 4", "1 x 2 x 2 3 3 4"}, []string{"1 2 x 3 4", "1 2 4", "1 2 3"}},
		{"[...]", []string{"", "a"}, nil},
		{"[a <= 10, b >= -1.5e1, c < 3, d]", []string{"10 -15 2.9 x", "9 1 -1 x"}, []string{"11 1 1 x", "1 -16 1 x", "1 1 3 x", "a 1 1 x"}},
		{"[a = 1.0, b]", []string{"1 x", "1.0 x", "1e0 x"}, []string{"1.1 x"}},
		{`[a = "1.0", b]`, []string{"1.0 x"}, []string{"1 x"}},
		{"[(a = x || a = y) && a != x, b]", []string{"y z"}, []string{"x z", "w z"}},
		{"[a != 5, b]", []string{"x y", "4 y"}, []string{"5 y", "5.0 y"}},
		{"[a, b]", []string{"[x y", `"x y`, "[x] y", `"a b" "c d"`}, []string{"[x y]", `"x y"`}},
		// Properties.
		{`{ $.eventType = "UpdateTrail" }`, []string{trail, " \n" + trail + "\n"}, []string{people, "text", "", trail + " x", "prefix " + trail}},
		{"{ $.sourceIPAddress != 123.123.* }", []string{trail}, []string{strings.Replace(trail, "111.111", "123.123", 1), people}},
		{`{ $.arrayKey[0] = "value" }`, []string{trail}, []string{strings.Replace(trail, `"value", `, "", 1)}},
		{"{ $.objectList[1].id = 2 }", []string{trail}, []string{people}},
		{"{ $.objectList[2].id = 2 || $.eventType[0] = 1 || $.arrayKey.x = 1 }", nil, []string{trail}},
		{"{ $.SomeObject IS NULL }", []string{trail}, []string{people}},
		{"{ $.SomeOtherObject NOT EXISTS }", []string{trail}, []string{`{"SomeOtherObject": null}`}},
		{"{ $.ThisFlag IS TRUE }", []string{trail}, []string{`{"ThisFlag": "true"}`, `{"ThisFlag": false}`}},
		{"{ $.Off IS FALSE && $.ThisFlag = true }", []string{trail}, []string{people}},
		{"{ $.eventType = %Trail$% }", []string{trail}, []string{people}},
		{"{ $.eventType = Update* && $.eventType = *Trail && $.eventType = *dateT* && $.eventType = * }", []string{trail}, nil},
		{`{ $.eventType = "Upd*Trail" }`, []string{`{"eventType":"Upd*Trail"}`}, []string{trail}},
		{`{ $.eventType = "*" && $.sourceIPAddress != 123.123.* }`, []string{trail}, []string{people}},
		{"{ $.arrayKey = * || $.arrayKey != x || $.SomeObject = * || $.SomeObject != x || $.none != x }", nil, []string{trail}},
		{`{ ($.user.id = 1) && ($.users[0].email = "John.Doe@example.com") }`, []string{people}, []string{trail}},
		{`{ $.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch" && $.actions[2] = "nonmatch" }`, []string{people}, nil},
		{`{ ($.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch") && $.actions[2] = "nonmatch" }`, nil, []string{people}},
		{`{ ($.user.id = 2 && $.users[0].email = "nonmatch") || $.actions[2] = "GET" }`, nil, []string{people}},
		{"{ $.coordinates[0][1] = 1 && $.coordinates[2][2]>8 }", []string{people}, nil},
		{"{ $.bandwidth > 75 && $.latency < 50 && $.latency >= 49.5 && $.latency <= 49.5 && $.errorCode = 400 && $.errorCode != 500 }", []string{numbers}, nil},
		{"{ $.number[0] = 1e-3 && $.number[1] = +1e+3 && $.number[0] != 1e+3 && $.neg < -4.9 }", []string{numbers}, nil},
		{"{ $.errorCode = 4* && $.errorCode = \"400\" }", []string{numbers}, nil},
		{"{ $.errorCode = 400.0 }", []string{numbers}, nil},
		{"{ $.text = 50 }", []string{numbers}, nil},
		{"{ $.text > 40 || $.errorCode < 400 || $.errorCode > 400 || $.errorCode != 400 || $.errorCode = 40 }", nil, []string{numbers}},
		{"{ $.big = 12345678901234567890 }", []string{numbers}, nil},
		{`{ $.['a.b'] = 7 && $["a b"].c = 8 && $['a b']['c'] = 8 }`, []string{numbers}, nil},
		{"{ $[1].id = 2 && $.[0].id = 1 }", []string{`[{"id":1},{"id":2}]`}, []string{`{"id":2}`, `[]`}},
		{"{$.message = \"hello\"}", []string{`{"message":"hello"}`}, []string{"hello", `"hello"`}},
		// Wildcards for any element or any member.
		{"{ $.arrayKey[*] = %val.{2}% }", []string{trail, `{"arrayKey":["x","value"]}`}, []string{people, `{"arrayKey":"value"}`, `{"arrayKey":[["value"]]}`}},
		{`{ $.* = %111\.111\.111\.1[0-9]{1,2}% }`, []string{trail}, []string{people, `{"a":{"ip":"111.111.111.111"}}`}},
		{"{ $.objectList[*].id = 2 }", []string{trail}, []string{people}},
		{"{ $.users[*].id = 3 && $.actions[*] = PUT && $.coordinates[*][2] = 9 }", []string{people}, []string{trail}},
		{"{ $.coordinates[1][*] > 5 || $.['users'][*]['id'] = 4 }", []string{people}, nil},
		{"{ $.user.* = 1 && $[*].id = 1 }", []string{people}, []string{`{"user":[2]}`}},
		{"{ $.objectList[*].none NOT EXISTS && $.* IS NULL && $.* IS TRUE }", []string{trail}, []string{`{"objectList":[{},{"none":null}],"a":true}`}},
		{"{ $.objectList[*].none NOT EXISTS }", []string{`{"objectList":[]}`, `{}`}, []string{`{"objectList":[{},{"none":null}]}`}},
		{"{ $.a-b_c = 1 }", []string{`{"a-b_c":1}`}, nil},
	}
	for _, test := range tests {
		p, err := Parse(test.pattern)
		if err != nil {
			t.Errorf("Parse(%q): %v", test.pattern, err)
			continue
		}
		if p.String() != test.pattern {
			t.Errorf("String() = %q, want %q", p, test.pattern)
		}
		for _, m := range test.yes {
			if !p.Match(m) {
				t.Errorf("%q does not match %q", test.pattern, m)
			}
		}
		for _, m := range test.not {
			if p.Match(m) {
				t.Errorf("%q matches %q", test.pattern, m)
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ pattern, want string }{
		{`{ $.a = "b"`, "If a filter pattern starts with '{' it must end with '}'"},
		{`[a, b`, "If a filter pattern starts with '[' it must end with ']'"},
		{"2b78b174-86ec", "Invalid character(s) in term '2b78b174-86ec'"},
		{"foo.bar baz", "Invalid character(s) in term 'foo.bar'"},
		{"ERROR -", "Invalid character(s) in term ''"},
		{"?", "Invalid character(s) in term ''"},
		{`"a"b`, "Invalid character(s) in term 'b'"},
		{"ö", "Invalid character(s) in term 'ö'"},
		{`"a`, `the string "a has no closing quote`},
		{"%a", "%a has no closing percent sign"},
		{"%%", "a regular expression is empty"},
		{"%something!%", "the character '!' is not supported in a regular expression"},
		{"%(a)%", "the character '(' is not supported"},
		{"%ä%", "the character 'ä' is not supported"},
		{`%\b%`, "the escape sequence at '\\b' of a regular expression is not supported"},
		{`%\x3%`, "escape sequence"},
		{"%a**%", "the regular expression %a**% is not valid"},
		{"%[a%", "is not valid"},
		{"%a{1000}b{1000}%", "is too large"},
		{"[a, b] c]", "there is more behind its end: 'c]'"},
		{"[a = , b]", "a value is missing before ', b]'"},
		{"[ip, status_code = 4* && bytes > 1000]", "a condition of the field status_code is about bytes"},
		{"[= 3]", "the name of a field is missing before '= 3]'"},
		{"[a b]", "a comma or a closing bracket is missing before 'b]'"},
		{"[a < x, b]", "only numbers can be compared"},
		{`[a < "5", b]`, "only numbers can be compared"},
		{"[a < 5*, b]", "only numbers can be compared"},
		{"[a = “*-*“, b]", "Invalid character(s) in term '“*-*“'"},
		{"[(a = 1, b]", "a closing parenthesis is missing before ', b]'"},
		{"[a=%a%, b=%b%, c=%c%]", "it has 3 regular expressions, and at most 2 are allowed"},
		{"{}", "a property selector, which starts with '$', is missing"},
		{"{ a = 1 }", "a property selector"},
		{"{ $ = 1 }", "the property selector '$' names no property"},
		{"{ $. = 1 }", "the property selector '$.' is not valid"},
		{"{ $.a[x] = 1 }", "is not valid"},
		{"{ $.a[-1] = 1 }", "is not valid"},
		{"{ $.a[1 = 1 }", "is not valid"},
		{"{ $.a* = 1 }", "an operator is missing"},
		{"{ $.*[*] = 1 }", "the property selector '$.*[*]' has more than one wildcard"},
		{"{ $.a[*] = 1 || $.b[*] = 1 && ($.c[*] = 1 || $.* = 2) }", "it has 4 wildcard selectors, and at most 3 are allowed"},
		{"{ $.a[''] = 1 }", "is not valid"},
		{"{ $.a }", "an operator is missing after '$.a'"},
		{"{ $.a = }", "a value is missing before '}'"},
		{"{ $.a = x@y }", "Invalid character(s) in term 'x@y'"},
		{"{ $.a IS NOT NULL }", "IS NOT is not supported"},
		{"{ $.a IS 5 }", "NULL, TRUE or FALSE is missing after IS"},
		{"{ $.a EXISTS }", "EXISTS is not supported"},
		{"{ $.a NOT NULL }", "EXISTS is missing after NOT"},
		{"{ $.a = 1 && }", "a property selector"},
		{"{ $.a = 1 } }", "there is more behind its end"},
		{"{ $.a = 1 b }", "an operator or the closing brace is missing before 'b }'"},
		{"{ $.a = %a% && $.a = %b% && $.a = %c% }", "at most 2"},
		{"{ $.a > %5% }", "only numbers"},
		{strings.Repeat("a", 1025), "at most 1024"},
	}
	for _, test := range tests {
		_, err := Parse(test.pattern)
		if problem, ok := errors.AsType[*Error](err); !ok || !strings.Contains(problem.Error(), test.want) {
			t.Errorf("Parse(%q): %v, want %s", test.pattern, err, test.want)
		}
	}
}

func TestExtract(t *testing.T) {
	tests := []struct {
		pattern, message string
		want             map[string]string
	}{
		{"GET", apache, map[string]string{}},
		{"[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes]", apache, map[string]string{
			"$bytes": "1534", "$status_code": "404", "$request": "GET /index.html HTTP/1.0", "$timestamp": "10/Oct/2000:13:25:15 -0700",
			"$username": "frank", "$user": "Prod", "$ip": "127.0.0.1",
		}},
		{"[..., request=*.html*, status_code=4*,]", apache, map[string]string{
			"$status_code": "404", "$request": "GET /index.html HTTP/1.0", "$7": "1534", "$4": "10/Oct/2000:13:25:15 -0700",
			"$3": "frank", "$2": "Prod", "$1": "127.0.0.1",
		}},
		{"[level, rest]", `INFO "a b" c  `, map[string]string{"$level": "INFO", "$rest": `"a b" c`}},
		{"[..., x=b, ...]", "a b c", map[string]string{"$1": "a", "$x": "b", "$3": "c"}},
		{"[]", `127.0.0.1 "a b" c`, map[string]string{"$1": "127.0.0.1", "$2": "a b", "$3": "c"}},
		{"[..., size]", "a - 200 1534", map[string]string{"$1": "a", "$2": "-", "$3": "200", "$size": "1534"}},
		{"{ $.objectList[*].id = 2 || $.* = x }", trail, map[string]string{"$.objectList[*].id": "1", "$.*": "false"}},
		{"{ $.eventType = * && $.objectList[1].id = 2 && $.ThisFlag IS TRUE && $.none NOT EXISTS }", trail, map[string]string{
			"$.eventType": "UpdateTrail", "$.objectList[1].id": "2", "$.ThisFlag": "true",
		}},
	}
	for _, test := range tests {
		p, err := Parse(test.pattern)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := p.Extract(test.message)
		if diff := cmp.Diff(test.want, got); !ok || diff != "" {
			t.Errorf("%q of %q: %t %s", test.pattern, test.message, ok, diff)
		}
	}
	p, _ := Parse("[a=1, b]")
	if _, ok := p.Extract("2 3"); ok {
		t.Error("values of a message that does not match")
	}
}

func TestRegexes(t *testing.T) {
	for text, want := range map[string]int{"a": 0, "%a% %b% %c%": 3, "[a=%a%, b=%b%]": 2, "{ $.a = %a% }": 1, `"%a%"`: 0} {
		if p, err := Parse(text); err != nil || p.Regexes() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What a hostile pattern and a hostile message can cost together is bounded.
func TestBoundedTime(t *testing.T) {
	message := strings.Repeat("aaaaaaaaa ", 2500)
	patterns := []string{
		"%" + strings.Repeat("a*", 200) + "b%",
		"%" + strings.Repeat("a{1,9}", 20) + "b%",
		"[" + strings.Repeat("..., a=aaaaaaaaa, ", 50) + "b=b, ...]",
		"[" + strings.Repeat("a, ", 300) + "...]",
		"{ " + strings.Repeat("(", 400) + "$.a = 1" + strings.Repeat(")", 400) + " }",
	}
	for _, text := range patterns {
		p, err := Parse(text)
		if err != nil {
			t.Errorf("%.40s: %v", text, err)
			continue
		}
		start := time.Now()
		p.Match(message)
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%.40s takes %s", text, took)
		} else {
			t.Logf("%.40s: %s", text, took)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, seed := range []string{"ERROR -x ?y", `"a \" b"`, "%a[b-c]{2}%", "[a=1*, ..., b<2 || b>=3,]", "[]", `{ $.a[0]['b'] = "x*" && ($.c IS NULL || $.d NOT EXISTS) }`} {
		f.Add(seed, apache)
		f.Add(seed, trail)
	}
	f.Fuzz(func(t *testing.T, text, message string) {
		p, err := Parse(text)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%T", err)
			}
			return
		}
		values, ok := p.Extract(message)
		if ok != p.Match(message) || ok == (values == nil) {
			t.Errorf("%q of %q: %t, %v", text, message, ok, values)
		}
		for name := range values {
			if !strings.HasPrefix(name, "$") {
				t.Errorf("name %q", name)
			}
		}
		if again, err := Parse(text); err != nil || again.Match(message) != ok {
			t.Errorf("%q is not itself again: %v", text, err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	for _, text := range []string{"ERROR -ARGUMENTS", "%4[0-9]{2}%", "[..., status=4*, bytes]", `{ $.eventType = "UpdateTrail" }`} {
		p, err := Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%.10s", text), func(b *testing.B) {
			for b.Loop() {
				p.Match(apache)
				p.Match(trail)
			}
		})
	}
}

package policy

import "testing"

// Every operator, with what the reference of condition operators says of it.
func TestConditions(t *testing.T) {
	const arn = "arn:aws:sns:us-east-1:111111111111:topic:with:colons"
	for _, row := range []struct {
		condition string
		values    []string // of the key k; nil: missing
		want      bool
	}{
		{`{"StringEquals":{"k":"a"}}`, []string{"a"}, true},
		{`{"StringEquals":{"k":"a"}}`, []string{"A"}, false},
		{`{"StringEquals":{"k":["b","a"]}}`, []string{"a"}, true},
		{`{"StringEquals":{"k":"a*"}}`, []string{"ab"}, false},
		{`{"StringEquals":{"k":"a*"}}`, []string{"a*"}, true},
		{`{"StringEquals":{"K":"a"}}`, []string{"a"}, true},
		{`{"stringequals":{"k":"a"}}`, []string{"a"}, true},
		{`{"StringEquals":{"k":"a"}}`, nil, false},
		{`{"StringEqualsIfExists":{"k":"a"}}`, nil, true},
		{`{"StringEqualsIfExists":{"k":"a"}}`, []string{"b"}, false},
		{`{"StringNotEquals":{"k":"a"}}`, []string{"b"}, true},
		{`{"StringNotEquals":{"k":"a"}}`, []string{"a"}, false},
		{`{"StringNotEquals":{"k":["a","b"]}}`, []string{"b"}, false},
		{`{"StringNotEquals":{"k":"a"}}`, nil, true},
		{`{"StringNotEquals":{"k":"a"}}`, []string{"b", "a"}, false},
		{`{"StringEqualsIgnoreCase":{"k":"aB"}}`, []string{"Ab"}, true},
		{`{"StringNotEqualsIgnoreCase":{"k":"aB"}}`, []string{"Ab"}, false},
		{`{"StringLike":{"k":"a*c?"}}`, []string{"abbcd"}, true},
		{`{"StringLike":{"k":"a*c?"}}`, []string{"abbc"}, false},
		{`{"StringLike":{"k":"A*"}}`, []string{"ab"}, false},
		{`{"StringNotLike":{"k":"a*"}}`, []string{"ab"}, false},
		{`{"StringNotLike":{"k":"a*"}}`, nil, true},
		{`{"StringLike":{"k":"${u}-*"}}`, []string{"me-1"}, true},
		{`{"StringLike":{"k":"${missing}-*"}}`, []string{"-1"}, false},
		{`{"StringLike":{"k":"${star}"}}`, []string{"abc"}, false},
		{`{"StringEquals":{"k":"${$}{u}"}}`, []string{"${u}"}, true},
		{`{"StringEquals":{"k":"${unclosed"}}`, []string{"${unclosed"}, true},

		{`{"NumericEquals":{"k":1}}`, []string{"1.0"}, true},
		{`{"NumericEquals":{"k":"12345678901234567890"}}`, []string{"12345678901234567891"}, false},
		{`{"NumericNotEquals":{"k":"1"}}`, []string{"2"}, true},
		{`{"NumericNotEquals":{"k":"1"}}`, []string{"1.00"}, false},
		{`{"NumericNotEquals":{"k":"1"}}`, nil, true},
		{`{"NumericLessThan":{"k":"10"}}`, []string{"9"}, true},
		{`{"NumericLessThan":{"k":"10"}}`, []string{"10"}, false},
		{`{"NumericLessThanEquals":{"k":"10"}}`, []string{"10"}, true},
		{`{"NumericGreaterThan":{"k":"-1"}}`, []string{"0"}, true},
		{`{"NumericGreaterThanEquals":{"k":"10"}}`, []string{"9.99"}, false},
		{`{"NumericEquals":{"k":"one"}}`, []string{"one"}, false},
		{`{"NumericLessThan":{"k":"1e999999999"}}`, []string{"1"}, false},

		{`{"DateEquals":{"k":"2026-01-02T03:04:05Z"}}`, []string{"2026-01-02T04:04:05+01:00"}, true},
		{`{"DateNotEquals":{"k":"2026-01-02T03:04:05Z"}}`, []string{"2026-01-02T03:04:05Z"}, false},
		{`{"DateLessThan":{"k":"2026-01-02"}}`, []string{"2026-01-01T23:59:59.999Z"}, true},
		{`{"DateLessThan":{"k":"2026-01-02"}}`, []string{"2026-01-02T00:00Z"}, false},
		{`{"DateLessThanEquals":{"k":"2026-01"}}`, []string{"2026-01-01"}, true},
		{`{"DateGreaterThan":{"k":"1767225599"}}`, []string{"2026-01-01T00:00:00Z"}, true},
		{`{"DateGreaterThanEquals":{"k":1767225600}}`, []string{"2026-01-01T00:00:00Z"}, true},
		{`{"DateGreaterThan":{"k":"never"}}`, []string{"2026-01-01"}, false},

		{`{"Bool":{"k":"true"}}`, []string{"true"}, true},
		{`{"Bool":{"k":true}}`, []string{"True"}, true},
		{`{"Bool":{"k":"false"}}`, []string{"true"}, false},
		{`{"Bool":{"k":"false"}}`, nil, false},
		{`{"BoolIfExists":{"k":"true"}}`, nil, true},

		{`{"BinaryEquals":{"k":"QUJD"}}`, []string{"QUJD"}, true},
		{`{"BinaryEquals":{"k":"QUJD"}}`, []string{"QUJE"}, false},
		{`{"BinaryEquals":{"k":"no base64"}}`, []string{"no base64"}, false},

		{`{"IpAddress":{"k":"203.0.113.0/24"}}`, []string{"203.0.113.9"}, true},
		{`{"IpAddress":{"k":"203.0.113.7/24"}}`, []string{"203.0.113.9"}, true},
		{`{"IpAddress":{"k":"203.0.113.0/24"}}`, []string{"203.0.114.9"}, false},
		{`{"IpAddress":{"k":"203.0.113.9"}}`, []string{"::ffff:203.0.113.9"}, true},
		{`{"IpAddress":{"k":["10.0.0.0/8","2001:db8::/32"]}}`, []string{"2001:db8::1"}, true},
		{`{"IpAddress":{"k":"10.0.0.0/8"}}`, []string{"localhost"}, false},
		{`{"NotIpAddress":{"k":"10.0.0.0/8"}}`, []string{"10.1.1.1"}, false},
		{`{"NotIpAddress":{"k":"10.0.0.0/8"}}`, []string{"11.1.1.1"}, true},
		{`{"NotIpAddress":{"k":"10.0.0.0/8"}}`, nil, true},

		{`{"ArnEquals":{"k":"` + arn + `"}}`, []string{arn}, true},
		{`{"ArnLike":{"k":"arn:aws:sns:*:111111111111:topic*"}}`, []string{arn}, true},
		{`{"ArnEquals":{"k":"arn:aws:sns:*:111111111111:topic*"}}`, []string{arn}, true},
		{`{"ArnLike":{"k":"arn:aws:sns:*"}}`, []string{arn}, false}, // a wildcard does not reach over a colon
		{`{"ArnLike":{"k":"arn:aws:*:topic:with:colons"}}`, []string{arn}, false},
		{`{"ArnLike":{"k":"arn:*:*:*:*:*"}}`, []string{arn}, true},
		{`{"ArnLike":{"k":"arn:*:*:*:*:*"}}`, []string{"no:arn:at:all:x:y"}, false},
		{`{"ArnNotEquals":{"k":"` + arn + `"}}`, []string{arn}, false},
		{`{"ArnNotLike":{"k":"arn:aws:s3:::*"}}`, []string{arn}, true},
		{`{"ArnNotLike":{"k":"arn:aws:s3:::*"}}`, nil, true},
		{`{"ArnLike":{"k":"arn:aws:sns:*:${acct}:*"}}`, []string{arn}, true},

		{`{"Null":{"k":"true"}}`, nil, true},
		{`{"Null":{"k":"true"}}`, []string{"x"}, false},
		{`{"Null":{"k":false}}`, []string{"x"}, true},
		{`{"Null":{"k":"false"}}`, nil, false},

		{`{"ForAllValues:StringEquals":{"k":["a","b"]}}`, []string{"a", "b", "a"}, true},
		{`{"ForAllValues:StringEquals":{"k":["a","b"]}}`, []string{"a", "c"}, false},
		{`{"ForAllValues:StringEquals":{"k":"a"}}`, nil, true},
		{`{"ForAllValues:StringNotEquals":{"k":["a","b"]}}`, []string{"c", "d"}, true},
		{`{"ForAllValues:StringNotEquals":{"k":["a","b"]}}`, []string{"c", "a"}, false},
		{`{"ForAnyValue:StringLike":{"k":"a*"}}`, []string{"b", "ab"}, true},
		{`{"ForAnyValue:StringLike":{"k":"a*"}}`, []string{"b", "c"}, false},
		{`{"ForAnyValue:StringLike":{"k":"a*"}}`, nil, false},
		{`{"ForAnyValue:StringNotEquals":{"k":"a"}}`, []string{"a", "b"}, true},
		{`{"ForAnyValue:StringNotEquals":{"k":"a"}}`, []string{"a"}, false},
		{`{"ForAnyValue:StringNotEquals":{"k":"a"}}`, nil, false},
		{`{"ForAnyValue:StringEqualsIfExists":{"k":"a"}}`, nil, true},

		{`{"StringEquals":{"k":"a","u":"me"}}`, []string{"a"}, true}, // all keys
		{`{"StringEquals":{"k":"a","u":"you"}}`, []string{"a"}, false},
		{`{"StringEquals":{"k":"a"},"StringLike":{"u":"m*"}}`, []string{"a"}, true}, // all operators
		{`{"StringEquals":{"k":"a"},"StringLike":{"u":"n*"}}`, []string{"a"}, false},
		{`{}`, nil, true},
	} {
		doc := parse(t, Identity, one(`"Effect":"Allow","Action":"*","Resource":"*","Condition":`+row.condition))
		c := Context{"u": {"me"}, "star": {"*"}, "acct": {ours}}
		if row.values != nil {
			c["k"] = row.values
		}
		req := &Request{Principal: user(ours), Action: "a:b", Resource: fn, ResourceAccount: ours, Context: c}
		if got := Decide(req, Policies{Identity: []*Document{doc}}).Outcome == Allowed; got != row.want {
			t.Errorf("%s with %q: %v, want %v", row.condition, row.values, got, row.want)
		}
	}
}

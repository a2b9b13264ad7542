package expr

import (
	"strconv"
	"strings"
)

// node is a part of an expression: a leaf, an operator or a function with its
// arguments.
type node struct {
	op     string // "number", "text", "name", "array", "call", "neg", or an operator
	text   string // of names, texts and calls
	number float64
	args   []*node
}

// lexeme is one symbol of the source.
type lexeme struct {
	kind string // "number", "text", "name", "end", or the symbol itself
	text string
	at   int
}

// lex splits the source.
func lex(src string) ([]lexeme, error) {
	var out []lexeme
	for i := 0; i < len(src); {
		c := src[i]
		begin := i
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
			continue
		case c == '\'' || c == '"':
			end := strings.IndexByte(src[i+1:], c)
			if end < 0 {
				return nil, fault("the string that begins at position %d does not end", begin+1)
			}
			out = append(out, lexeme{"text", src[i+1 : i+1+end], begin})
			i += end + 2
			continue
		case isDigit(c) || c == '.':
			for i < len(src) && (isDigit(src[i]) || src[i] == '.' || exponent(src, i)) {
				i++
			}
			out = append(out, lexeme{"number", src[begin:i], begin})
			continue
		case isLetter(c):
			for i < len(src) && (isLetter(src[i]) || isDigit(src[i])) {
				i++
			}
			out = append(out, lexeme{"name", src[begin:i], begin})
			continue
		}
		symbol := src[i : i+1]
		if two := src[i:min(i+2, len(src))]; strings.Contains(" == != <= >= && || ", " "+two+" ") && len(two) == 2 {
			symbol = two
		}
		if !strings.Contains("+-*/^()[],<>", symbol) && len(symbol) == 1 {
			return nil, fault("the character %q at position %d is not expected", symbol, begin+1)
		}
		out = append(out, lexeme{symbol, symbol, begin})
		i += len(symbol)
	}
	return append(out, lexeme{"end", "", len(src)}), nil
}

// exponent says that src[i] belongs to the exponent of a number.
func exponent(src string, i int) bool {
	switch src[i] {
	case 'e', 'E':
		return i+1 < len(src) && (isDigit(src[i+1]) || i+2 < len(src) && (src[i+1] == '-' || src[i+1] == '+') && isDigit(src[i+2]))
	case '-', '+':
		return i > 0 && (src[i-1] == 'e' || src[i-1] == 'E')
	}
	return false
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' }

// parser reads lexemes from left to right. Its depth is bounded by that of
// the source, which is short.
type parser struct {
	in []lexeme
}

func parse(src string) (*node, error) {
	in, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{in}
	n, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if p.in[0].kind != "end" {
		return nil, p.unexpected()
	}
	return n, nil
}

func (p *parser) unexpected() error {
	if p.in[0].kind == "end" {
		return fault("the expression ends too early")
	}
	return fault("%q at position %d is not expected", p.in[0].text, p.in[0].at+1)
}

// take consumes a symbol if it is next.
func (p *parser) take(kind string) bool {
	if p.in[0].kind != kind {
		return false
	}
	p.in = p.in[1:]
	return true
}

// precedence of the binary operators, weakest first.
func precedence(l lexeme) (op string, level int) {
	switch word := strings.ToUpper(l.text); {
	case l.kind == "||" || l.kind == "name" && word == "OR":
		return "||", 1
	case l.kind == "&&" || l.kind == "name" && word == "AND":
		return "&&", 2
	}
	switch l.kind {
	case "==", "!=", "<", ">", "<=", ">=":
		return l.kind, 3
	case "+", "-":
		return l.kind, 4
	case "*", "/":
		return l.kind, 5
	case "^":
		return l.kind, 6
	}
	return "", 0
}

// binary reads operands that are joined by operators stronger than level.
func (p *parser) binary(level int) (*node, error) {
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	for {
		op, strength := precedence(p.in[0])
		if strength <= level {
			return left, nil
		}
		p.in = p.in[1:]
		right, err := p.binary(strength)
		if err != nil {
			return nil, err
		}
		left = &node{op: op, args: []*node{left, right}}
	}
}

func (p *parser) operand() (*node, error) {
	l := p.in[0]
	switch {
	case p.take("-"):
		const tighter = 5 // -a*b is (-a)*b, -a^b is -(a^b)
		n, err := p.binary(tighter)
		return &node{op: "neg", args: []*node{n}}, err
	case p.take("("):
		n, err := p.binary(0)
		if err == nil && !p.take(")") {
			err = p.unexpected()
		}
		return n, err
	case p.take("["):
		args, err := p.list("]")
		return &node{op: "array", args: args}, err
	case p.take("number"):
		v, err := strconv.ParseFloat(l.text, 64)
		if err != nil {
			return nil, fault("%q at position %d is not a number", l.text, l.at+1)
		}
		return &node{op: "number", number: v}, nil
	case p.take("text"):
		return &node{op: "text", text: l.text}, nil
	case p.take("name"):
		if !p.take("(") {
			return &node{op: "name", text: l.text}, nil
		}
		name := strings.ToUpper(l.text)
		if err := served(name); err != nil {
			return nil, err
		}
		args, err := p.list(")")
		return &node{op: "call", text: name, args: args}, err
	}
	return nil, p.unexpected()
}

// list reads arguments up to the closing symbol.
func (p *parser) list(closing string) ([]*node, error) {
	var args []*node
	if p.take(closing) {
		return nil, nil
	}
	for {
		n, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		args = append(args, n)
		if p.take(closing) {
			return args, nil
		}
		if !p.take(",") {
			return nil, p.unexpected()
		}
	}
}

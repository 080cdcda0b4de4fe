package corefile

import "strings"

// server is one block of a Corefile, for the zones that its keys name; or a
// snippet, whose only key is in parentheses.
type server struct {
	keys []token
	block
}

// block is what stands between braces.
type block struct {
	open, close token
	directives  []directive
}

// directive is a line, with the block that it opens, if any.
type directive struct {
	name token
	args []token
	*block
}

// last is the last word of the directive's line, without an opening brace.
func (d directive) last() token {
	if len(d.args) > 0 {
		return d.args[len(d.args)-1]
	}
	return d.name
}

// all returns the directives of that name.
func (b *block) all(name string) []directive {
	if b == nil {
		return nil
	}
	var out []directive
	for _, d := range b.directives {
		if d.name.is(name) {
			out = append(out, d)
		}
	}
	return out
}

// maxDepth bounds how deep blocks may be nested; CoreDNS has no plugin that
// needs more than three.
const maxDepth = 16

// parse reads the blocks of src. Braces must stand where everybody puts them:
// one that opens at the end of its line, one that closes on a line of its own.
func parse(src string) ([]server, error) {
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := parser{tokens: tokens}
	var out []server
	for !p.done() {
		s, err := p.server()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

type parser struct {
	tokens []token
	next   int
}

func (p *parser) done() bool { return p.next == len(p.tokens) }

// line takes the rest of the words that begin on the next word's line.
func (p *parser) line() []token {
	begin := p.next
	for !p.done() && p.tokens[p.next].line == p.tokens[begin].line {
		p.next++
	}
	return p.tokens[begin:p.next]
}

// server reads keys, which may go on after a comma at a line's end, and a block.
func (p *parser) server() (server, error) {
	var keys []token
	for !p.done() {
		line := p.line()
		end := line[len(line)-1]
		if end.is("{") && len(keys)+len(line) > 1 {
			b, err := p.block(end, 1)
			return server{append(keys, line[:len(line)-1]...), b}, err
		}
		if line[0].is("import") && len(keys) == 0 {
			return server{}, nil // of another file; what it holds is not ours to change
		}
		keys = append(keys, line...)
		if !strings.HasSuffix(end.text, ",") {
			return server{}, unusual(end.line, "a server block without braces")
		}
	}
	return server{}, unusual(keys[0].line, "a server block without braces")
}

// block reads up to the brace that closes open.
func (p *parser) block(open token, depth int) (block, error) {
	b := block{open: open}
	if depth > maxDepth {
		return b, unusual(open.line, "blocks nested more than %d deep", maxDepth)
	}
	for !p.done() {
		line := p.line()
		if line[0].is("}") {
			if len(line) > 1 {
				return b, unusual(line[0].line, "words after a closing brace")
			}
			b.close = line[0]
			return b, nil
		}
		d, err := p.directive(line, depth)
		if err != nil {
			return b, err
		}
		b.directives = append(b.directives, d)
	}
	return b, unusual(open.line, "a brace is not closed")
}

func (p *parser) directive(line []token, depth int) (directive, error) {
	d := directive{name: line[0], args: line[1:]}
	for i, t := range line {
		if t.is("}") || t.is("{") && (i == 0 || i < len(line)-1) {
			return d, unusual(t.line, "a brace within a line")
		}
	}
	if n := len(d.args); n > 0 && d.args[n-1].is("{") {
		b, err := p.block(d.args[n-1], depth+1)
		d.args, d.block = d.args[:n-1], &b
		return d, err
	}
	return d, nil
}

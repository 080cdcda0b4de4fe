// Package corefile edits the configuration of CoreDNS, so that its kubernetes
// plugin serves the names of a clusterset too. It changes the few words that
// this needs, in the text itself, and can take exactly these back; all else
// stays as its author wrote it, comments and indentation included. It is pure.
package corefile

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// UnusualError says that a Corefile is not one that can be changed safely.
type UnusualError struct {
	Line int // counted from 1; 0 where no line is at fault
	What string
}

func (e UnusualError) Error() string {
	if e.Line == 0 {
		return e.What
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.What)
}

func unusual(line int, format string, args ...any) error {
	return UnusualError{line, fmt.Sprintf(format, args...)}
}

// token is a word of a Corefile: what stands between spaces, or between quotes.
type token struct {
	text       string // without quotes
	start, end int    // offsets in the source, quotes included
	line       int    // on which it begins, from 1
	quoted     bool
}

func (t token) is(text string) bool { return !t.quoted && t.text == text }

// lex splits src as CoreDNS does: # begins a comment wherever it stands, a
// quote begins a quoted word only at the word's beginning.
func lex(src string) ([]token, error) {
	var out []token
	line := 1
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRuneInString(src[i:])
		switch {
		case r == '\n':
			line++
			i++
		case unicode.IsSpace(r):
			i += size
		case r == '#':
			i = lineEnd(src, i)
		case r == '"':
			t, err := lexQuoted(src, i, line)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
			i = t.end
		default:
			end := wordEnd(src, i)
			out = append(out, token{text: src[i:end], start: i, end: end, line: line})
			i = end
		}
	}
	return out, nil
}

// lineEnd is the offset of the newline at or after i, or of the end.
func lineEnd(src string, i int) int {
	if n := strings.IndexByte(src[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(src)
}

func wordEnd(src string, i int) int {
	if n := strings.IndexFunc(src[i:], func(r rune) bool { return r == '#' || unicode.IsSpace(r) }); n >= 0 {
		return i + n
	}
	return len(src)
}

func lexQuoted(src string, i, line int) (token, error) {
	var text strings.Builder
	for j := i + 1; j < len(src); j++ {
		switch {
		case src[j] == '\\' && j+1 < len(src) && src[j+1] == '"':
			text.WriteByte('"')
			j++
		case src[j] == '"':
			return token{text: text.String(), start: i, end: j + 1, line: line, quoted: true}, nil
		case src[j] == '\n':
			return token{}, unusual(line, "a quote is not closed on its line")
		default:
			text.WriteByte(src[j])
		}
	}
	return token{}, unusual(line, "a quote is not closed")
}

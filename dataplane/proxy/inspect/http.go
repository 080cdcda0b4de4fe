package inspect

import (
	"bytes"
	"strings"
)

// preface begins every HTTP/2 connection (RFC 9113 §3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// requestLine looks for an HTTP request. done is false while bytes are missing.
func requestLine(head []byte) (res Result, done bool) {
	if len(head) == 0 {
		return Result{}, false
	}
	if n := min(len(head), len(preface)); string(head[:n]) == preface[:n] {
		if n == len(preface) {
			return Result{Applications: []string{"h2c"}}, true
		}
		return Result{}, false
	}
	line, _, whole := bytes.Cut(head, []byte("\n"))
	if !methodLike(line) {
		return Result{}, true
	}
	if !whole {
		return Result{}, len(head) >= maxRequestLine
	}
	switch fields := strings.Fields(string(line)); {
	case len(fields) != 3:
		return Result{}, true
	case fields[2] == "HTTP/1.1":
		return Result{Applications: []string{"http/1.1"}}, true
	case fields[2] == "HTTP/1.0":
		return Result{Applications: []string{"http/1.0"}}, true
	default:
		return Result{}, true
	}
}

// methodLike reports whether line begins, as far as it goes, with a method:
// a token of at most 32 characters, then a space.
func methodLike(line []byte) bool {
	method, _, ended := bytes.Cut(line, []byte(" "))
	if len(method) == 0 || len(method) > 32 || !ended && bytes.ContainsRune(line, '\r') {
		return false
	}
	for _, b := range method {
		if !(b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0) {
			return false
		}
	}
	return true
}

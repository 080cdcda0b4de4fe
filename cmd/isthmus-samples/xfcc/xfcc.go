// Package xfcc reads the header x-forwarded-client-cert, by which a proxy tells
// the application who called. (Envoy's documentation of HTTP headers)
package xfcc

import (
	"errors"
	"fmt"
	"strings"
)

// MaxLength bounds the header that Parse reads, in bytes.
const MaxLength = 16 << 10

// ErrMalformed is wrapped by every error of Parse.
var ErrMalformed = errors.New("malformed x-forwarded-client-cert")

// Element is one certificate on the way, the nearest last.
type Element struct {
	By      []string // identities of the certificate that the proxy showed
	Hash    string
	Subject string
	URI     []string // identities of the client's certificate
	DNS     []string
}

// Parse reads the header's value. Keys are case-insensitive, values may be
// quoted, unknown keys are skipped. An empty value gives no elements.
func Parse(value string) ([]Element, error) {
	if len(value) > MaxLength {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxLength)
	}
	if strings.TrimSpace(value) == "" {
		return nil, nil
	}
	var out []Element
	parts, err := split(value, ',')
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		e, err := parseElement(part)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func parseElement(s string) (Element, error) {
	var e Element
	pairs, err := split(s, ';')
	if err != nil {
		return e, err
	}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok {
			return e, fmt.Errorf("%w: %q is no pair", ErrMalformed, pair)
		}
		e.set(strings.ToLower(key), unquote(value))
	}
	return e, nil
}

func (e *Element) set(key, value string) {
	switch key {
	case "by":
		e.By = append(e.By, value)
	case "hash":
		e.Hash = value
	case "subject":
		e.Subject = value
	case "uri":
		e.URI = append(e.URI, value)
	case "dns":
		e.DNS = append(e.DNS, value)
	}
}

// split cuts s at sep, except inside double quotes, where a backslash takes the
// next byte as it is.
func split(s string, sep byte) ([]string, error) {
	var out []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	if quoted {
		return nil, fmt.Errorf("%w: open quote", ErrMalformed)
	}
	return append(out, s[start:]), nil
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

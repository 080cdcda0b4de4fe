package proxy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/isthmus-mesh/isthmus/dataplane/proxy/upstream"
)

const (
	headerXFCC      = "X-Forwarded-Client-Cert"
	headerRequestID = "X-Request-Id"
	headerPrefix    = "X-Isthmus-" // ours alone; nobody outside may set them
)

// hopByHop headers end at each proxy (RFC 9110 §7.6.1).
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// clean brings the request's head into one form, before anything is decided by
// it. A status other than 0 refuses the request.
func (e *exchange) clean() (status int, reason string) {
	r := e.in
	if r.Method == http.MethodConnect {
		return http.StatusMethodNotAllowed, "CONNECT is not served"
	}
	if strings.Contains(r.RequestURI, "#") {
		return http.StatusBadRequest, "a path has no fragment"
	}
	if e.http.NormalizePath {
		if err := normalize(r.URL); err != nil {
			return http.StatusBadRequest, err.Error()
		}
	}
	if e.upgrade = upgradeOf(r.Header); e.upgrade == "h2c" {
		e.upgrade = ""
	}
	if e.upgrade != "" && (e.h2 || !slices.Contains(e.http.Upgrades, e.upgrade)) {
		return http.StatusForbidden, "upgrade to " + e.upgrade + " is not allowed"
	}
	endHop(r.Header, e.upgrade) // before anything of ours is set: nobody may name that as of the hop
	stripIdentity(r.Header)
	if e.http.SetXFCC && e.d.peer != nil {
		r.Header.Set(headerXFCC, e.xfcc())
	}
	if e.http.RequestID && r.Header.Get(headerRequestID) == "" {
		r.Header.Set(headerRequestID, newRequestID())
	}
	return 0, ""
}

// stripIdentity removes what would tell the application who calls.
func stripIdentity(h http.Header) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return tellsIdentity(name) })
}

// tellsIdentity takes underscores for hyphens, as applications do.
func tellsIdentity(name string) bool {
	name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	return name == headerXFCC || strings.HasPrefix(name, headerPrefix)
}

// xfcc describes the caller's certificate in Envoy's format. By is our own ID.
func (e *exchange) xfcc() string {
	hash := sha256.Sum256(e.d.peer.Leaf.Raw)
	var parts []string
	if svid, err := e.chain.proxy.opts.Source.SVID(); err == nil {
		parts = append(parts, "By="+svid.ID.String())
	}
	parts = append(parts, "Hash="+hex.EncodeToString(hash[:]))
	if e.http.XFCCURI {
		parts = append(parts, "URI="+e.d.peer.ID.String())
	}
	if e.http.XFCCDNS {
		for _, name := range e.d.peer.Leaf.DNSNames {
			parts = append(parts, "DNS="+name)
		}
	}
	return strings.Join(parts, ";")
}

// newRequestID returns a random UUID (RFC 9562 §5.4).
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// upgradeOf returns the protocol that the request asks to change to.
func upgradeOf(h http.Header) string {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(h.Get("Upgrade")))
}

// normalize removes dot segments, also where they are encoded, and backslashes.
func normalize(u *url.URL) error {
	if u.Path == "*" || u.Path == "" {
		return nil
	}
	path := strings.ReplaceAll(u.EscapedPath(), `\`, "/")
	path = strings.ReplaceAll(path, "%5C", "/")
	path = strings.ReplaceAll(path, "%5c", "/")
	path = strings.NewReplacer("%2e", ".", "%2E", ".").Replace(path)
	if !strings.Contains(path, "/.") {
		return setPath(u, path)
	}
	var out []string
	segments := strings.Split(path, "/")
	for i, s := range segments {
		lastOne := i == len(segments)-1
		switch {
		case s == "..":
			if len(out) > 1 {
				out = out[:len(out)-1]
			}
			if lastOne {
				out = append(out, "")
			}
		case s == ".":
			if lastOne {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return setPath(u, strings.Join(out, "/"))
}

func setPath(u *url.URL, escaped string) error {
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	u.Path, u.RawPath = path, escaped
	return nil
}

// outgoing is the request as it goes to host.
func (e *exchange) outgoing(ctx context.Context, host *upstream.Host, body *replay) *http.Request {
	out := e.in.WithContext(ctx)
	u := *e.in.URL
	u.Scheme, u.Host = "http", host.Addr.String()
	out.URL, out.RequestURI, out.Close = &u, "", false
	out.Header = maps.Clone(e.in.Header)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // else net/http names itself
	}
	out.GetBody = nil
	if out.Body, out.Trailer = body.next(); out.Body == nil {
		out.ContentLength = 0
	}
	out.TransferEncoding = nil
	return out
}

// endHop removes from h what was for the single hop, but for the wish to change
// to upgrade, where that is not empty.
func endHop(h http.Header, upgrade string) {
	asked := h.Get("Upgrade")
	trailers := httpguts.HeaderValuesContainsToken(h["Te"], "trailers")
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
	if trailers { // gRPC wants to hear that trailers arrive
		h.Set("Te", "trailers")
	}
	if upgrade != "" {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", asked)
	}
}

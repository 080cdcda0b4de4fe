package boot

import (
	"net/netip"
	"testing"
)

// A resolver on loopback is replaced by the node's address; any other is left alone.
func TestRedirect(t *testing.T) {
	own := netip.MustParseAddr("172.18.0.2")
	text, upstream := Redirect("search lan\nnameserver 127.0.0.11\noptions ndots:0\n", own)
	if text != "search lan\nnameserver 172.18.0.2\noptions ndots:0\n" || upstream.String() != "127.0.0.11" {
		t.Errorf("%q, %s", text, upstream)
	}
	const elsewhere = "nameserver 192.0.2.53\n"
	if text, upstream := Redirect(elsewhere, own); text != elsewhere || upstream.IsValid() {
		t.Errorf("%q, %s", text, upstream)
	}
}

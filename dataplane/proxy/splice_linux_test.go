package proxy_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/isthmus-mesh/isthmus/trust"
)

// readBytes is what this process has read by read(2); splice does not count.
func readBytes(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skipf("SKIPPED, splicing is not tested: %v", err)
	}
	_, err = fmt.Fscanf(bytes.NewReader(text), "rchar: %d", &n)
	must(t, err)
	return n
}

// At the gateway bytes go from socket to socket within the kernel: the two ends,
// which are in this process, read each byte once, and the gateway none.
func TestGatewaySplices(t *testing.T) {
	const size = 32 << 20
	ca := newAuthority(t, "cluster.local")
	server, caller := ca.svid(t, "west", "shop", "reviews"), ca.svid(t, "east", "shop", "web")
	got := make(chan int64, 1)
	at := tcpApp(t, func(c *net.TCPConn) {
		s := tls.Server(c, trust.ServerTLS(server, []string{"isthmus"}, true, nil))
		n, _ := io.Copy(io.Discard, s)
		_, _ = io.CopyN(s, zeros{}, size)
		got <- n
	})
	gw := start(t, ca.svid(t, "west", "isthmus-system", "isthmus-eastwest"))
	gw.apply(t, newState(gatewayListener(loopback(0)), gatewayCluster(reviewsSNI), assignment(reviewsSNI, ep{at: at})))
	before := readBytes(t)
	c, err := tls.Dial("tcp", gw.bound(t, "east-west").String(), trust.ClientTLS(caller, reviewsSNI, []string{"isthmus"}, nil))
	must(t, err)
	defer c.Close()
	_, err = io.CopyN(c, zeros{}, size)
	must(t, err)
	must(t, c.CloseWrite())
	back, err := io.Copy(io.Discard, c)
	if err != nil && back < size {
		t.Fatal(err)
	}
	if up := <-got; up != size || back != size {
		t.Fatalf("%d up, %d back", up, back)
	}
	if read := readBytes(t) - before; read < 2*size || read > 3*size {
		t.Errorf("read %d bytes for %d each way: the gateway copies by itself", read, size)
	}
}

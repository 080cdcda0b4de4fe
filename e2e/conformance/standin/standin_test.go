package main

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// What socat serves, nc gets: TCP and UDP, with the server's line ends.
func TestServeAndCall(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			s := server{command: "echo pod ip 192.0.2.1", crlf: true}
			var addr string
			if network == "tcp" {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				go func() {
					for {
						conn, err := l.Accept()
						if err != nil {
							return
						}
						_ = s.serve(conn.(*net.TCPConn))
						conn.Close()
					}
				}()
				addr = l.Addr().String()
			} else {
				l, err := net.ListenPacket("udp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				addr = l.LocalAddr().String()
				l.Close()
				go func() { _ = s.packets(addr) }()
			}
			host, port, _ := net.SplitHostPort(addr)
			args := []string{"-w", "5", host, port}
			if network == "udp" {
				args = append([]string{"-u"}, args...)
			}
			var out bytes.Buffer
			var err error
			for range 50 { // the datagram socket may open a little later
				out.Reset()
				if err = netcat(args, strings.NewReader("hi\n"), &out); err == nil {
					break
				}
			}
			if err != nil || out.String() != "pod ip 192.0.2.1\r\n" {
				t.Errorf("got %q, %v", out.String(), err)
			}
		})
	}
}

func TestLookUp(t *testing.T) {
	server := answer(t, map[string][]dnsmessage.ResourceBody{
		"hello.ns.svc.clusterset.local.": {&dnsmessage.AResource{A: [4]byte{10, 1, 0, 7}}, &dnsmessage.AResource{A: [4]byte{10, 1, 0, 8}}},
		"srv.ns.svc.clusterset.local.":   {&dnsmessage.SRVResource{Weight: 50, Port: 42, Target: dnsmessage.MustNewName("srv.ns.svc.clusterset.local.")}},
	})
	for _, c := range []struct {
		args []string
		want string
		err  string
	}{
		{[]string{"hello.ns.svc.clusterset.local"}, "Name:\thello.ns.svc.clusterset.local\nAddress: 10.1.0.7\nName:\thello.ns.svc.clusterset.local\nAddress: 10.1.0.8\n", ""},
		{[]string{"-type=SRV", "srv.ns.svc.clusterset.local"}, "srv.ns.svc.clusterset.local\tservice = 0 50 42 srv.ns.svc.clusterset.local\n", ""},
		{[]string{"none.ns.svc.clusterset.local"}, "** server can't find none.ns.svc.clusterset.local: NXDOMAIN\n", "NXDOMAIN"},
		{[]string{"-debug", "none.ns.svc.clusterset.local"}, "->  clusterset.local\n\torigin = ns.dns.clusterset.local\n\tminimum = 5\n\tttl = 7\n** server can't find none.ns.svc.clusterset.local: NXDOMAIN\n", "NXDOMAIN"},
		{[]string{"-type=AAAA", "hello.ns.svc.clusterset.local"}, "*** Can't find hello.ns.svc.clusterset.local: No answer\n", "no answer"},
		{[]string{"-type=MX", "a.b"}, "", "want [-debug"},
		{[]string{strings.Repeat("a", 70) + ".b"}, "", "name"},
	} {
		var out bytes.Buffer
		err := nslookup(append(c.args, server), nil, &out)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !strings.HasSuffix(out.String(), c.want) {
			t.Errorf("%v: %q, %v", c.args, out.String(), err)
		}
	}
}

// answer serves records by UDP; other names do not exist.
func answer(t *testing.T, records map[string][]dnsmessage.ResourceBody) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		data := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(data)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(data[:n]) != nil {
				continue
			}
			m.Response = true
			name := m.Questions[0].Name
			bodies, ok := records[name.String()]
			if !ok {
				m.RCode = dnsmessage.RCodeNameError
				m.Authorities = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("clusterset.local."), Class: dnsmessage.ClassINET, TTL: 7},
					Body:   &dnsmessage.SOAResource{NS: dnsmessage.MustNewName("ns.dns.clusterset.local."), MBox: name, MinTTL: 5},
				}}
			}
			if m.Questions[0].Type == dnsmessage.TypeAAAA {
				bodies = nil
			}
			for _, b := range bodies {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}, Body: b})
			}
			packed, err := m.Pack()
			if err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

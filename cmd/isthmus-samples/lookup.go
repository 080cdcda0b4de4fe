package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/dns/dnsmessage"
)

// lookup is what a DNS server says of a name. No search path is tried.
type lookup struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Code    string   `json:"code"` // Success, NameError, ...
	Answers []string `json:"answers,omitempty"`
	// TTL, in seconds, is the shortest of the answers; where there are none, how long a
	// cache may keep that (RFC 2308 §5).
	TTL uint32 `json:"ttl"`
}

var lookupTypes = map[string]dnsmessage.Type{
	"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "SRV": dnsmessage.TypeSRV, "TXT": dnsmessage.TypeTXT,
}

func newLookupCommand() *cobra.Command {
	var kind, server string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "lookup NAME",
		Short:   "Ask DNS for a name as it is written, and print what it says as JSON",
		Example: "  isthmus-samples lookup echo.shop.svc.clusterset.local --type SRV",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, ok := lookupTypes[strings.ToUpper(kind)]
			if !ok {
				return fmt.Errorf("type %q is none of A, AAAA, SRV, TXT", kind)
			}
			if server == "" {
				var err error
				if server, err = nameserver("/etc/resolv.conf"); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			answer, err := ask(ctx, server, args[0], t)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(answer)
		},
	}
	cmd.Flags().StringVar(&kind, "type", "A", "A, AAAA, SRV or TXT")
	cmd.Flags().StringVar(&server, "server", "", "HOST:PORT of the DNS server; default the first of /etc/resolv.conf")
	cmd.Flags().DurationVar(&timeout, "timeout", 4*time.Second, "how long to wait")
	return cmd
}

// nameserver returns the first server that file names.
func nameserver(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			return net.JoinHostPort(f[1], "53"), nil
		}
	}
	return "", fmt.Errorf("%s names no server", file)
}

// ask sends one question by UDP.
func ask(ctx context.Context, server, name string, t dnsmessage.Type) (lookup, error) {
	out := lookup{Name: name, Type: strings.TrimPrefix(t.String(), "Type")}
	fqdn, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return out, fmt.Errorf("name %q: %w", name, err)
	}
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: binary.BigEndian.Uint16(id[:]), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: fqdn, Type: t, Class: dnsmessage.ClassINET}},
	}
	reply, err := exchange(ctx, server, query)
	if err != nil {
		return out, fmt.Errorf("ask %s for %s: %w", server, name, err)
	}
	out.read(reply)
	return out, nil
}

func exchange(ctx context.Context, server string, query dnsmessage.Message) (dnsmessage.Message, error) {
	var reply dnsmessage.Message
	packed, err := query.Pack()
	if err != nil {
		return reply, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", server)
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return reply, err
		}
	}
	if _, err := conn.Write(packed); err != nil {
		return reply, err
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		return reply, err
	}
	if err := reply.Unpack(buf[:n]); err != nil {
		return reply, err
	}
	if reply.ID != query.ID || !reply.Response {
		return reply, errors.New("an answer to something else")
	}
	return reply, nil
}

func (l *lookup) read(m dnsmessage.Message) {
	l.Code = strings.TrimPrefix(m.RCode.String(), "RCode")
	for _, a := range m.Answers {
		text := ""
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			text = net.IP(b.A[:]).String()
		case *dnsmessage.AAAAResource:
			text = net.IP(b.AAAA[:]).String()
		case *dnsmessage.SRVResource:
			text = fmt.Sprintf("%s:%d", strings.TrimSuffix(b.Target.String(), "."), b.Port)
		case *dnsmessage.TXTResource:
			text = strings.Join(b.TXT, "")
		default:
			continue
		}
		if len(l.Answers) == 0 || a.Header.TTL < l.TTL {
			l.TTL = a.Header.TTL
		}
		l.Answers = append(l.Answers, text)
	}
	if len(l.Answers) > 0 {
		return
	}
	for _, a := range m.Authorities {
		if soa, ok := a.Body.(*dnsmessage.SOAResource); ok {
			l.TTL = min(a.Header.TTL, soa.MinTTL)
		}
	}
}

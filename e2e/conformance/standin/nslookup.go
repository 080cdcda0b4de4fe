package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// lookUpTime is how long a whole look-up may take.
const lookUpTime = 4 * time.Second

// types that nslookup asks for.
func types() map[string]dnsmessage.Type {
	return map[string]dnsmessage.Type{
		"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "SRV": dnsmessage.TypeSRV, "TXT": dnsmessage.TypeTXT,
	}
}

// nslookup asks the pod's name server for NAME as it is written, without the
// search list, and prints the answer as BusyBox does.
func nslookup(args []string, _ io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("nslookup", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	kind := flags.String("type", "A", "type of the records")
	debug := flags.Bool("debug", false, "print also how long a name stays unknown")
	if err := flags.Parse(args); err != nil {
		return err
	}
	want, ok := types()[strings.ToUpper(*kind)]
	if !ok || flags.NArg() < 1 || flags.NArg() > 2 {
		return errors.New("want [-debug] [-type=A|AAAA|SRV|TXT] NAME [SERVER]")
	}
	server := flags.Arg(1)
	if server == "" {
		var err error
		if server, err = nameServer("/etc/resolv.conf"); err != nil {
			return err
		}
	}
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "53")
	}
	host, _, _ := net.SplitHostPort(server)
	fmt.Fprintf(out, "Server:\t\t%s\nAddress:\t%s\n\n", host, server)
	name := strings.TrimSuffix(flags.Arg(0), ".")
	answer, err := ask(server, name, want)
	if err != nil {
		return err
	}
	if *debug {
		printAuthorities(out, answer)
	}
	return printAnswer(out, name, answer)
}

// printAuthorities prints who answers for the zone and, as ttl and minimum in
// seconds, how long a resolver may keep that a name is unknown. (RFC 2308 §5)
func printAuthorities(out io.Writer, answer *dnsmessage.Message) {
	for _, r := range answer.Authorities {
		if soa, ok := r.Body.(*dnsmessage.SOAResource); ok {
			fmt.Fprintf(out, "->  %s\n\torigin = %s\n\tminimum = %d\n\tttl = %d\n", strings.TrimSuffix(r.Header.Name.String(), "."), strings.TrimSuffix(soa.NS.String(), "."), soa.MinTTL, r.Header.TTL)
		}
	}
}

func nameServer(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == "nameserver" {
			return words[1], nil
		}
	}
	return "", fmt.Errorf("%s names no server", path)
}

// ask sends a question by UDP, and by TCP where the answer did not fit.
func ask(server, name string, kind dnsmessage.Type) (*dnsmessage.Message, error) {
	question, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", name, err)
	}
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: question, Type: kind, Class: dnsmessage.ClassINET}},
	}
	packed, err := query.Pack()
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", name, err)
	}
	end := time.Now().Add(lookUpTime)
	answer, err := exchange("udp", server, packed, query.ID, end)
	if err == nil && answer.Truncated {
		return exchange("tcp", server, packed, query.ID, end)
	}
	return answer, err
}

func exchange(network, server string, query []byte, id uint16, end time.Time) (*dnsmessage.Message, error) {
	conn, err := net.DialTimeout(network, server, time.Until(end))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(end); err != nil {
		return nil, err
	}
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	for {
		data, err := receive(network, conn)
		if err != nil {
			return nil, fmt.Errorf("no answer from %s: %w", server, err)
		}
		var answer dnsmessage.Message
		if err := answer.Unpack(data); err == nil && answer.ID == id && answer.Response {
			return &answer, nil
		} else if network == "tcp" {
			return nil, fmt.Errorf("%s does not answer what it was asked", server)
		}
	}
}

func receive(network string, conn net.Conn) ([]byte, error) {
	data := make([]byte, 64<<10)
	if network == "udp" {
		n, err := conn.Read(data)
		return data[:n], err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	n, err := io.ReadFull(conn, data[:binary.BigEndian.Uint16(size[:])])
	return data[:n], err
}

func printAnswer(out io.Writer, name string, answer *dnsmessage.Message) error {
	if answer.RCode != dnsmessage.RCodeSuccess {
		code := map[dnsmessage.RCode]string{dnsmessage.RCodeNameError: "NXDOMAIN", dnsmessage.RCodeServerFailure: "SERVFAIL", dnsmessage.RCodeRefused: "REFUSED"}[answer.RCode]
		if code == "" {
			code = answer.RCode.String()
		}
		fmt.Fprintf(out, "** server can't find %s: %s\n", name, code)
		return errors.New(code)
	}
	for _, r := range answer.Answers {
		owner := strings.TrimSuffix(r.Header.Name.String(), ".")
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			fmt.Fprintf(out, "Name:\t%s\nAddress: %s\n", owner, net.IP(body.A[:]))
		case *dnsmessage.AAAAResource:
			fmt.Fprintf(out, "Name:\t%s\nAddress: %s\n", owner, net.IP(body.AAAA[:]))
		case *dnsmessage.SRVResource:
			fmt.Fprintf(out, "%s\tservice = %d %d %d %s\n", owner, body.Priority, body.Weight, body.Port, strings.TrimSuffix(body.Target.String(), "."))
		case *dnsmessage.TXTResource:
			fmt.Fprintf(out, "%s\ttext = %q\n", owner, strings.Join(body.TXT, ""))
		case *dnsmessage.CNAMEResource:
			fmt.Fprintf(out, "%s\tcanonical name = %s\n", owner, strings.TrimSuffix(body.CNAME.String(), "."))
		}
	}
	if len(answer.Answers) == 0 {
		fmt.Fprintf(out, "*** Can't find %s: No answer\n", name)
		return errors.New("no answer")
	}
	return nil
}

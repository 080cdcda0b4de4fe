package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// lingering is how long a connection may still send after its answer, so that
// what was not read does not reset it.
const lingering = 500 * time.Millisecond

// socat serves TCP-LISTEN:PORT,fork or UDP-LISTEN:PORT,fork with the output of
// SYSTEM:COMMAND, which gets what the caller sends. It ends only by an error.
func socat(args []string, _ io.Reader, _ io.Writer) error {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-v" || a == "-d" })
	if len(args) != 2 {
		return errors.New("want [-v] TCP-LISTEN:PORT,OPTION...|UDP-LISTEN:PORT,OPTION... SYSTEM:COMMAND")
	}
	listen, options, err := parseListen(args[0])
	if err != nil {
		return err
	}
	command, ok := strings.CutPrefix(args[1], "SYSTEM:")
	if !ok {
		return fmt.Errorf("address %q: only SYSTEM:COMMAND", args[1])
	}
	s := server{command: command, crlf: slices.Contains(options, "crlf")}
	if strings.HasPrefix(args[0], "UDP") {
		return s.packets(listen)
	}
	return s.connections(listen)
}

func parseListen(text string) (addr string, options []string, err error) {
	kind, rest, _ := strings.Cut(text, ":")
	if kind != "TCP-LISTEN" && kind != "UDP-LISTEN" {
		return "", nil, fmt.Errorf("address %q: only TCP-LISTEN and UDP-LISTEN", text)
	}
	words := strings.Split(rest, ",")
	for _, o := range words[1:] {
		if !slices.Contains([]string{"crlf", "reuseaddr", "fork"}, o) {
			return "", nil, fmt.Errorf("address %q: option %q is not known", text, o)
		}
	}
	return ":" + words[0], words[1:], nil
}

type server struct {
	command string
	crlf    bool // lines end with CR LF on the wire
}

func (s server) answer(in io.Reader) ([]byte, error) {
	cmd := exec.Command("/bin/sh", "-c", s.command)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdinPipe() // closed when the command ends, read or not
	if err != nil {
		return nil, err
	}
	go func() {
		_, _ = io.Copy(pipe, in)
		_ = pipe.Close()
	}()
	text, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	if s.crlf {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	}
	return text, nil
}

func (s server) connections(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if err := s.serve(conn.(*net.TCPConn)); err != nil {
				log.Printf("%s: %v", conn.RemoteAddr(), err)
			}
		}()
	}
}

func (s server) serve(conn *net.TCPConn) error {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	text, err := s.answer(conn)
	if err != nil {
		return err
	}
	if _, err := conn.Write(text); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(lingering)); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, conn)
	return nil
}

func (s server) packets(addr string) error {
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	data := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(data)
		if err != nil {
			return err
		}
		text, err := s.answer(bytes.NewReader(data[:n]))
		if err == nil {
			_, err = conn.WriteTo(text, from)
		}
		if err != nil {
			log.Printf("%s: %v", from, err)
		}
	}
}

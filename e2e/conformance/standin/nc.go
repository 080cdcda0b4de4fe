package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"time"
)

// netcat sends in to HOST PORT and prints what comes back until the other side
// ends. A datagram's answer is one datagram.
func netcat(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("nc", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	udp := flags.Bool("u", false, "UDP")
	wait := flags.Int("w", 10, "seconds to wait for a connection, and for an answer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return errors.New("want HOST PORT")
	}
	network := "tcp"
	if *udp {
		network = "udp"
	}
	limit := time.Duration(*wait) * time.Second
	conn, err := net.DialTimeout(network, net.JoinHostPort(flags.Arg(0), flags.Arg(1)), limit)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if *udp {
		return datagram(conn, in, out)
	}
	go func() { _, _ = io.Copy(conn, in) }() // ends with the connection, or with in
	if _, err := io.Copy(out, conn); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

func datagram(conn net.Conn, in io.Reader, out io.Writer) error {
	const most = 64 << 10
	data, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return err
	}
	if _, err := conn.Write(data); err != nil {
		return err
	}
	buffer := make([]byte, most)
	n, err := conn.Read(buffer)
	if err != nil {
		return err
	}
	_, err = out.Write(buffer[:n])
	return err
}

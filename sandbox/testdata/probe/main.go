// Command probe is what the sandbox's tests run in pods.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	switch os.Args[1] {
	case "serve": // PORT
		fmt.Println("serving", version)
		fmt.Println(http.ListenAndServe(":"+os.Args[2], http.HandlerFunc(answer)))
		os.Exit(1)
	case "say": // TEXT...
		fmt.Println(strings.Join(os.Args[2:], " "))
	case "get": // URL
		exit(get(os.Args[2]))
	case "lookup": // NAME
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		addresses, err := net.DefaultResolver.LookupHost(ctx, os.Args[2])
		fmt.Println(strings.Join(addresses, " "))
		exit(err)
	case "read": // FILE
		data, err := os.ReadFile(os.Args[2])
		fmt.Print(string(data))
		exit(err)
	case "write": // FILE TEXT
		exit(os.WriteFile(os.Args[2], []byte(os.Args[3]), 0o644))
	case "fail":
		os.Exit(3)
	}
}

var version = "one"

func answer(w http.ResponseWriter, r *http.Request) {
	name, _ := os.Hostname()
	fmt.Fprintf(w, "%s sees %s", name, strings.Split(r.RemoteAddr, ":")[0])
}

func get(url string) error {
	client := &http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

func exit(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

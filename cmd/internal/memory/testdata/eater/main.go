// Program eater holds 56 MiB and lets go of the same again and again, of which Go's
// collector by itself makes up to 112 MiB. It begins when its standard input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/isthmus-mesh/isthmus/cmd/internal/memory"
)

func main() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	if len(os.Args) > 1 {
		memory.KeepBelowLimit(context.Background(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	var held [56][]byte
	for i := range 1000 {
		piece := make([]byte, 1<<20)
		for at := 0; at < len(piece); at += 4096 {
			piece[at] = 1
		}
		held[i%len(held)] = piece
	}
	fmt.Println(debug.SetMemoryLimit(-1), len(held[0]))
}

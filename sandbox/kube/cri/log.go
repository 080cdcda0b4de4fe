package cri

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLine is the most bytes of a line that one log entry holds.
const maxLine = 16 << 10

// A logFile takes the output of a container in the format that kubelet reads:
// time, stream, F for a full line or P for a part of one, text.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
}

func openLog(path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l := &logFile{path: path}
	return l, l.reopen()
}

func (l *logFile) reopen() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
	}
	l.file = file
	return nil
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close()
}

func (l *logFile) write(stream, tag string, line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.file, "%s %s %s %s\n", time.Now().UTC().Format(time.RFC3339Nano), stream, tag, line)
	return err
}

// stream returns a writer for stdout or stderr, used by one goroutine.
func (l *logFile) stream(name string) *logStream { return &logStream{log: l, name: name} }

type logStream struct {
	log  *logFile
	name string
	rest []byte // of a line that has not ended
}

func (s *logStream) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		line, rest, ended := bytes.Cut(s.rest, []byte{'\n'})
		tag := "F"
		switch {
		case len(line) > maxLine:
			line, rest, tag = s.rest[:maxLine], s.rest[maxLine:], "P"
		case !ended:
			return len(p), nil
		}
		// A full disk must not stop the program.
		_ = s.log.write(s.name, tag, line)
		s.rest = append(s.rest[:0], rest...)
	}
}

// flush writes what the program left without a line's end.
func (s *logStream) flush() {
	if len(s.rest) > 0 {
		_ = s.log.write(s.name, "F", s.rest)
		s.rest = nil
	}
}

// Calls a server with grpc-go as each line on standard input says, and writes a line about how the calls ended.
// Messages are bytes here; what they mean is for the test to know.
//
//	go_client ADDRESS [AUTHORITY CERTIFICATE KEY]
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// What is asked: calls of one method, all at once and on one connection. Times are milliseconds.
type question struct {
	Method   string `json:"method"`
	Message  []byte `json:"message"`
	Calls    int    `json:"calls"`
	Metadata int    `json:"metadata"` // bytes of a header beside the usual ones
	Gzip     bool   `json:"gzip"`
	Timeout  int    `json:"timeout"`
	Cancel   int    `json:"cancel"` // after which a call is given up; 0 for never
	Stream   bool   `json:"stream"` // it is no unary method
	Pause    int    `json:"pause"`  // before the answer of a stream is read
}

type ending struct {
	Codes   map[int]int `json:"codes"`   // how many calls ended with each
	Details string      `json:"details"` // of one that failed
	Answers [][]byte    `json:"answers"` // the messages that came, of all calls
}

// Messages as they are.
type octets struct{}

func (octets) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (octets) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte{}, data...)
	return nil
}

func (octets) Name() string { return "" } // so that the content type is application/grpc

func main() {
	connection, err := connect(os.Args[1], os.Args[2:])
	if err != nil {
		fail(err)
	}
	lines, answers := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return
		}
		var asked question
		if err := errors.Join(err, json.Unmarshal(line, &asked)); err != nil {
			fail(err)
		}
		if err := answers.Encode(ask(connection, asked)); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func connect(address string, files []string) (*grpc.ClientConn, error) {
	spoken := insecure.NewCredentials()
	if len(files) == 3 {
		authority, err := os.ReadFile(files[0])
		if err != nil {
			return nil, err
		}
		own, err := tls.LoadX509KeyPair(files[1], files[2])
		if err != nil {
			return nil, err
		}
		believed := x509.NewCertPool()
		believed.AppendCertsFromPEM(authority)
		spoken = credentials.NewTLS(&tls.Config{RootCAs: believed, Certificates: []tls.Certificate{own}})
	}
	if !strings.HasPrefix(address, "unix:") {
		address = "passthrough:///" + address
	}
	return grpc.NewClient(
		address,
		grpc.WithTransportCredentials(spoken),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(octets{})),
		grpc.WithStaticStreamWindowSize(1<<16), // of a size that does not grow: a slow reader holds up its server
		grpc.WithStaticConnWindowSize(1<<30),
	)
}

func ask(connection *grpc.ClientConn, asked question) ending {
	ended := ending{Codes: map[int]int{}}
	var lock sync.Mutex
	var calls sync.WaitGroup
	for range asked.Calls {
		calls.Go(func() {
			answers, err := call(connection, asked)
			lock.Lock()
			defer lock.Unlock()
			ended.Codes[int(status.Code(err))]++
			ended.Answers = append(ended.Answers, answers...)
			if err != nil {
				ended.Details = status.Convert(err).Message()
			}
		})
	}
	calls.Wait()
	return ended
}

func call(connection *grpc.ClientConn, asked question) ([][]byte, error) {
	within, done := context.WithTimeout(context.Background(), time.Duration(asked.Timeout)*time.Millisecond)
	defer done()
	if asked.Cancel > 0 {
		defer time.AfterFunc(time.Duration(asked.Cancel)*time.Millisecond, done).Stop()
	}
	if asked.Metadata > 0 {
		within = metadata.AppendToOutgoingContext(within, "x-large", strings.Repeat("x", asked.Metadata))
	}
	var options []grpc.CallOption
	if asked.Gzip {
		options = append(options, grpc.UseCompressor("gzip"))
	}
	if asked.Stream {
		return stream(within, connection, asked, options)
	}
	var answer []byte
	if err := connection.Invoke(within, asked.Method, &asked.Message, &answer, options...); err != nil {
		return nil, err
	}
	return [][]byte{answer}, nil
}

func stream(
	within context.Context, connection *grpc.ClientConn, asked question, options []grpc.CallOption,
) (answers [][]byte, err error) {
	described := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	opened, err := connection.NewStream(within, described, asked.Method, options...)
	if err != nil {
		return nil, err
	}
	if err := opened.SendMsg(&asked.Message); err != nil && !errors.Is(err, io.EOF) { // EOF: to receive says why
		return nil, err
	}
	if err := opened.CloseSend(); err != nil {
		return nil, err
	}
	time.Sleep(time.Duration(asked.Pause) * time.Millisecond)
	for {
		var answer []byte
		if err := opened.RecvMsg(&answer); errors.Is(err, io.EOF) {
			return answers, nil
		} else if err != nil {
			return answers, err
		}
		answers = append(answers, answer)
	}
}

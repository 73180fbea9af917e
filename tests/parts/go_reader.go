// Reads paths, queries, JSON and multipart bodies with the packages of Go that opa-envoy-plugin reads them with.
// One question a line on standard input, one answer a line on standard output; octets travel in base64.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"os"
	"strings"
)

type question struct {
	Kind        string `json:"kind"`
	Octets      []byte `json:"octets"`
	ContentType string `json:"content_type"`
}

type answer struct {
	Value any    `json:"value"`
	Error string `json:"error,omitempty"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		var said answer
		value, err := read(asked)
		if err != nil {
			said.Error = err.Error()
		} else {
			said.Value = value
		}
		if err := answers.Encode(said); err != nil {
			panic(err)
		}
	}
}

func read(asked question) (any, error) {
	switch asked.Kind {
	case "path":
		decoded, err := url.PathUnescape(string(asked.Octets))
		return strings.Split(strings.TrimLeft(decoded, "/"), "/"), err
	case "query":
		return url.ParseQuery(string(asked.Octets))
	case "json":
		return readJSON(asked.Octets)
	case "multipart":
		return readParts(asked.Octets, asked.ContentType)
	}
	return nil, errors.New("unknown kind " + asked.Kind)
}

func readJSON(octets []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(octets))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return value, nil
}

func readParts(octets []byte, contentType string) (any, error) {
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	boundary, found := parameters["boundary"]
	if !found {
		return nil, nil
	}
	values := map[string][]any{}
	parts := multipart.NewReader(bytes.NewReader(octets), boundary)
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		name := part.FormName()
		if name == "" {
			continue
		}
		var value any = string(content)
		if strings.Contains(part.Header.Get("Content-Type"), "application/json") {
			if value, err = readJSON(content); err != nil {
				return nil, err
			}
		}
		values[name] = append(values[name], value)
	}
}

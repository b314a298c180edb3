// Command frames writes SPDY with upstream's own framer, and what each frame is, for a parser to be compared with; or reads it.
//
//	frames write SEED    prints {"bytes": BASE64}, then each frame as {"kind", "stream", "channel", "data", "fin"}
//	frames read          prints each frame of its standard input
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log"
	"math/rand"
	"net/http"
	"os"
	"strconv"

	"github.com/moby/spdystream/spdy"
)

type frame struct {
	Kind    string `json:"kind"`
	Stream  uint32 `json:"stream"`
	Channel string `json:"channel,omitempty"`
	Data    []byte `json:"data,omitempty"`
	Fin     bool   `json:"fin,omitempty"`
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	if os.Args[1] == "read" {
		read(encoder)
		return
	}
	seed, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	write(rand.New(rand.NewSource(seed)), encoder)
}

func payload(random *rand.Rand) []byte {
	data := make([]byte, []int{0, 1, 125, 126, 127, 1000, 65535, 65536, 70000}[random.Intn(9)])
	random.Read(data)
	return data
}

func write(random *rand.Rand, encoder *json.Encoder) {
	var wire bytes.Buffer
	framer, err := spdy.NewFramer(&wire, &wire)
	if err != nil {
		log.Fatal(err)
	}
	var frames []frame
	put := func(f spdy.Frame) {
		if err := framer.WriteFrame(f); err != nil {
			log.Fatal(err)
		}
	}
	names := []string{"error", "stdin", "stdout", "stderr", "resize", "data"}
	next := uint32(1)
	for range 60 {
		switch choice := random.Intn(6); {
		case choice == 0 || next == 1:
			name := names[random.Intn(len(names))]
			headers := http.Header{"streamtype": {name}, "x-padding-" + strconv.Itoa(random.Intn(9)): {string(bytes.Repeat([]byte("y"), random.Intn(300)))}}
			put(&spdy.SynStreamFrame{StreamId: spdy.StreamId(next), Headers: headers})
			frames = append(frames, frame{Kind: "open", Stream: next, Channel: name})
			next += 2
		case choice == 1:
			put(&spdy.PingFrame{Id: uint32(random.Intn(1000))*2 + 1})
			frames = append(frames, frame{Kind: "control"})
		case choice == 2:
			put(&spdy.WindowUpdateFrame{StreamId: 1, DeltaWindowSize: 1000})
			frames = append(frames, frame{Kind: "control"})
		case choice == 3:
			put(&spdy.SettingsFrame{FlagIdValues: []spdy.SettingsFlagIdValue{{Flag: 0, Id: 4, Value: 100}}})
			frames = append(frames, frame{Kind: "control"})
		default:
			id, data, fin := uint32(random.Intn(int(next/2)))*2+1, payload(random), random.Intn(8) == 0
			flags := spdy.DataFlags(0)
			if fin {
				flags = spdy.DataFlagFin
			}
			put(&spdy.DataFrame{StreamId: spdy.StreamId(id), Flags: flags, Data: data})
			frames = append(frames, frame{Kind: "data", Stream: id, Data: data, Fin: fin})
		}
	}
	encoder.Encode(map[string][]byte{"bytes": wire.Bytes()})
	for _, f := range frames {
		encoder.Encode(f)
	}
}

// read prints the frames upstream reads from standard input.
func read(encoder *json.Encoder) {
	framer, err := spdy.NewFramer(io.Discard, os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	for {
		switch f, err := framer.ReadFrame(); f := f.(type) {
		case *spdy.SynReplyFrame:
			encoder.Encode(frame{Kind: "reply", Stream: uint32(f.StreamId)})
		case *spdy.SynStreamFrame:
			encoder.Encode(frame{Kind: "open", Stream: uint32(f.StreamId), Channel: f.Headers.Get("streamType")})
		case *spdy.DataFrame:
			encoder.Encode(frame{Kind: "data", Stream: uint32(f.StreamId), Data: f.Data, Fin: f.Flags&spdy.DataFlagFin != 0})
		case *spdy.GoAwayFrame:
			encoder.Encode(frame{Kind: "goaway"})
		default:
			if err == io.EOF {
				return
			}
			log.Fatalf("%T %v", f, err)
		}
	}
}

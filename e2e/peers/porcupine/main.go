// Command linearizable says whether a recorded history of a key-value store can be put in one order
// in which every answer is right and nothing happens before it was asked for or after it was answered.
//
//	linearizable [-limit 2m] [-picture FILE] HISTORY
//
// The history has one operation per line, as JSON (see operation). Every key is a register of its own.
// Exit code 0: there is such an order. 1: there is none, and the keys are named. 2: it could not be
// decided within the limit. 3: the history cannot be read.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is one request and what became of it. Values are never empty: the empty string is "absent".
type operation struct {
	Client int    `json:"client"`
	Kind   string `json:"kind"` // put, get, cas, delete
	Key    string `json:"key"`
	// Value that a put or a cas writes.
	Value string `json:"value"`
	// Expect is the value a cas asks for.
	Expect string `json:"expect"`
	// Call and Return are in nanoseconds of one clock.
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
	// Known is false when no answer came, or one that leaves it open whether anything was done.
	Known bool `json:"known"`
	// Found is what a get, or a cas that did not succeed, read.
	Found string `json:"found"`
	// Done tells whether a cas succeeded, or a delete deleted something.
	Done bool `json:"done"`
}

// A register holds a value or nothing. It decides from the operation alone what the next value is, so
// that operations without an answer need no guess.
var register = porcupine.Model{
	Init: func() interface{} { return "" },
	Step: func(state, input, _ interface{}) (bool, interface{}) {
		now, op := state.(string), input.(operation)
		switch op.Kind {
		case "put":
			return true, op.Value
		case "get":
			return op.Found == now, now
		case "delete":
			return !op.Known || op.Done == (now != ""), ""
		case "cas":
			if now == op.Expect {
				return !op.Known || op.Done, op.Value
			}
			return !op.Known || (!op.Done && op.Found == now), now
		}
		return false, now
	},
	DescribeOperation: func(input, _ interface{}) string {
		op := input.(operation)
		text := op.Kind + " " + op.Key
		switch op.Kind {
		case "put":
			text += " := " + op.Value
		case "cas":
			text += fmt.Sprintf(" %q := %s", op.Expect, op.Value)
		}
		switch {
		case !op.Known:
			text += " -> ?"
		case op.Kind == "get" || op.Kind == "cas" && !op.Done:
			text += fmt.Sprintf(" -> %q", op.Found)
		case op.Kind == "delete":
			text += fmt.Sprintf(" -> %v", op.Done)
		}
		return text
	},
}

func read(path string) (map[string][]porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	histories := map[string][]porcupine.Operation{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		var op operation
		if err := json.Unmarshal(lines.Bytes(), &op); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		switch op.Kind {
		case "put", "get", "cas", "delete":
		default:
			return nil, fmt.Errorf("line %d: unknown kind %q", number, op.Kind)
		}
		if !op.Known {
			if op.Kind == "get" {
				continue // it changed nothing and told nothing
			}
			op.Return = math.MaxInt64 // it may happen at any time from its call on
		}
		if op.Return < op.Call {
			return nil, fmt.Errorf("line %d: answered before it was asked", number)
		}
		histories[op.Key] = append(histories[op.Key],
			porcupine.Operation{ClientId: op.Client, Input: op, Call: op.Call, Output: op, Return: op.Return})
	}
	return histories, lines.Err()
}

func run() int {
	limit := flag.Duration("limit", 2*time.Minute, "longest that one key may take")
	picture := flag.String("picture", "", "where to draw the first key that is wrong (HTML)")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		return 3
	}
	histories, err := read(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	keys := make([]string, 0, len(histories))
	operations := 0
	for key, history := range histories {
		keys = append(keys, key)
		operations += len(history)
	}
	sort.Strings(keys)
	code := 0
	for _, key := range keys {
		result, info := porcupine.CheckOperationsVerbose(register, histories[key], *limit)
		switch result {
		case porcupine.Illegal:
			fmt.Printf("key %s: %d operations in no possible order\n", key, len(histories[key]))
			if code != 1 && *picture != "" {
				if err := porcupine.VisualizePath(register, info, *picture); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
			code = 1
		case porcupine.Unknown:
			fmt.Printf("key %s: %d operations could not be decided within %v\n", key, len(histories[key]), *limit)
			if code == 0 {
				code = 2
			}
		}
	}
	if code == 0 {
		fmt.Printf("%d operations on %d keys are linearizable\n", operations, len(keys))
	}
	return code
}

func main() { os.Exit(run()) }

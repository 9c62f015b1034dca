//! `completion`: scripts that let a shell ask this program what could come next.

use crate::cli::{Call, Command, Group, PROGRAM};
use crate::exit::{ERROR, Failure};
use crate::go::quote::quote;
use crate::output::out;

const SHELLS: &[&str] = &["bash", "fish", "powershell", "zsh"];

pub static COMMAND: Command = Command::new("completion", "[bash|zsh|fish|powershell]", "Prints a completion script for a shell")
    .long(
        "Prints a completion script for a shell. To have it in this shell:\n\n  \
         bash:        source <(keelsonctl completion bash)\n  \
         zsh:         source <(keelsonctl completion zsh)\n  \
         fish:        keelsonctl completion fish | source\n  \
         PowerShell:  keelsonctl completion powershell | Out-String | Invoke-Expression\n\n\
         To have it in every shell, let the profile of the shell do that.",
    )
    .group(Group::Utility)
    .choices(SHELLS)
    .run(|call| Box::pin(run(call)));

const BASH: &str = r#"# What bash completes PROGRAM with.
_PROGRAM() {
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    mapfile -t COMPREPLY < <(PROGRAM __complete "${words[@]}" 2>/dev/null)
}
complete -o default -F _PROGRAM PROGRAM
"#;

const ZSH: &str = r#"#compdef PROGRAM
# What zsh completes PROGRAM with.
_PROGRAM() {
    local -a found
    found=(${(f)"$(PROGRAM __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then compadd -a found; else _files; fi
}
compdef _PROGRAM PROGRAM
"#;

const FISH: &str = r#"# What fish completes PROGRAM with.
complete -c PROGRAM -a '(PROGRAM __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
"#;

const POWERSHELL: &str = r#"# What PowerShell completes PROGRAM with.
Register-ArgumentCompleter -Native -CommandName PROGRAM -ScriptBlock {
    param($last, $line, $position)
    $words = @($line.CommandElements | Select-Object -Skip 1 | ForEach-Object { "$_" })
    if ($last -eq '') { $words += '""' }
    PROGRAM __complete @words | ForEach-Object { [System.Management.Automation.CompletionResult]::new($_) }
}
"#;

async fn run(call: Call) -> Result<(), Failure> {
    if call.args.len() != 1 {
        return Err(Failure::new(ERROR, format!("accepts 1 arg(s), received {}", call.args.len())));
    }
    let shell = call.word(0);
    let script = match shell.as_str() {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        "powershell" => POWERSHELL,
        _ => {
            let (shell, path) = (quote(shell.as_bytes()), quote(format!("{PROGRAM} completion").as_bytes()));
            return Err(Failure::new(ERROR, format!("invalid argument {shell} for {path}")));
        }
    };
    out(script.replace("PROGRAM", PROGRAM).as_bytes())
}

//! `portcullis verify-bpf`

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let programs = crate::redirect::verify()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&programs)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["PROGRAM", "KIND", "INSTRUCTIONS VERIFIED", "BYTES JITED"]);
    for p in &programs {
        table.add_row([p.name.clone(), p.kind.clone(), p.instructions.to_string(), p.jited_bytes.to_string()]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

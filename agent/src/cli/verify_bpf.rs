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
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["PROGRAM", "KIND", "INSTRUCTIONS VERIFIED", "BYTES"]);
    for p in &programs {
        let number = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.add_row([
            p.name.clone(),
            p.kind.to_owned(),
            number(p.verified_instructions),
            number(p.bytes),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

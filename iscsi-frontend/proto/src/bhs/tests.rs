use super::*;

/// A header with byte `n` at place `n`, as kind `H`.
fn counting<H: Header + Copy>() -> H {
    let mut bytes = std::array::from_fn(|place| place as u8);
    bytes[0] = H::OPCODE;
    *Bhs(bytes).view::<H>()
}

/// The four bytes at `place` of a counting header.
fn word(place: u8) -> u32 {
    u32::from_be_bytes([place, place + 1, place + 2, place + 3])
}

#[test]
fn fields_are_where_the_rfc_puts_them() {
    let command = counting::<ScsiCommand>();
    assert_eq!(command.total_ahs_length, 4);
    assert_eq!(command.data_segment_length.get(), 0x0005_0607);
    assert_eq!(command.lun, [8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(command.initiator_task_tag.get(), word(16));
    assert_eq!(command.expected_data_transfer_length.get(), word(20));
    assert_eq!(command.cmd_sn.get(), word(24));
    assert_eq!(command.exp_stat_sn.get(), word(28));
    assert_eq!(command.cdb[0], 32);

    let response = counting::<ScsiResponse>();
    assert_eq!((response.response, response.status), (2, 3));
    assert_eq!(response.stat_sn.get(), word(24));
    assert_eq!(response.exp_data_sn.get(), word(36));
    assert_eq!(response.residual_count.get(), word(44));

    let task = counting::<TaskManagementRequest>();
    assert_eq!(task.referenced_task_tag.get(), word(20));
    assert_eq!(task.ref_cmd_sn.get(), word(32));
    assert_eq!(counting::<TaskManagementResponse>().max_cmd_sn.get(), word(32));

    let out = counting::<DataOut>();
    assert_eq!(out.target_transfer_tag.get(), word(20));
    assert_eq!(out.exp_stat_sn.get(), word(28));
    assert_eq!(out.data_sn.get(), word(36));
    assert_eq!(out.buffer_offset.get(), word(40));

    let data_in = counting::<DataIn>();
    assert_eq!(data_in.status, 3);
    assert_eq!(data_in.residual_count.get(), word(44));
    assert_eq!(
        counting::<ReadyToTransfer>().desired_data_transfer_length.get(),
        word(44)
    );
    assert_eq!(counting::<Snack>().begin_run.get(), word(40));

    let login = counting::<LoginRequest>();
    assert_eq!((login.version_max, login.version_min), (2, 3));
    assert_eq!(login.tsih.get(), 0x0e0f);
    assert_eq!(login.cid.get(), 0x1415);
    assert_eq!(login.cmd_sn.get(), word(24));
    let answer = counting::<LoginResponse>();
    assert_eq!((answer.status_class, answer.status_detail), (36, 37));
    assert_eq!(counting::<TextRequest>().cmd_sn.get(), word(24));
    assert_eq!(counting::<TextResponse>().stat_sn.get(), word(24));

    assert_eq!(counting::<LogoutRequest>().cid.get(), 0x1415);
    let logout = counting::<LogoutResponse>();
    assert_eq!(
        (logout.time2wait.get(), logout.time2retain.get()),
        (0x2829, 0x2a2b)
    );
    let message = counting::<AsyncMessage>();
    assert_eq!(
        (message.event, message.vendor_code, message.parameter3.get()),
        (36, 37, 0x2a2b)
    );
    assert_eq!(counting::<Reject>().data_sn.get(), word(36));
    assert_eq!(counting::<NopOut>().cmd_sn.get(), word(24));
    assert_eq!(counting::<NopIn>().stat_sn.get(), word(24));
}

#[test]
fn a_new_header_is_its_opcode_and_the_final_bit() {
    let bytes = *NopIn::new().bytes();
    assert_eq!(&bytes[..2], &[opcode::NOP_IN, FINAL]);
    assert!(bytes[2..].iter().all(|&byte| byte == 0));
}

#[test]
fn lengths_are_read_in_words_and_24_bits() {
    let mut command = ScsiCommand::new();
    command.total_ahs_length = 5;
    command.data_segment_length = U24::new(0x12_3456);
    let bhs = command.to_bhs();
    assert_eq!(bhs.ahs_length(), 20);
    assert_eq!(bhs.data_segment_length(), 0x12_3456);
    assert_eq!(command.data_segment_length.get(), 0x12_3456);
}
